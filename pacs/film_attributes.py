"""What an object takes over from the film that it is about."""


class NotReportable(ValueError):
    """The film lacks what ties an object to it; the message says which attribute. It holds no value of the film's."""
