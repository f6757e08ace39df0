"""The hospital's network: films in by DICOM, reports back by DICOM.

The modules that make objects of a film and its report import ``handlers`` alone: ``identifiers``, ``codes``,
``film_attributes``, ``structured_report``, ``secondary_capture``, ``segmentation``, ``fhir``. The gateway imports those,
when an answer in their form is asked for. The commands (``report``, ``node``, …) import them and ``client``, and never
the gateway.
"""
