"""The hospital's network: films in by DICOM, reports back by DICOM.

Imports run one way. The modules that make objects of a film and its report (``codes``, ``identifiers``,
``film_attributes``, ``structured_report``, ``secondary_capture``, ``segmentation``, ``fhir``, ``forms``) import
``handlers`` alone. The gateway has ``forms`` called, in a process of its own, where an answer in such a form is asked
for. The commands (``report``, ``node``) import them and ``client``, and never the gateway.
"""
