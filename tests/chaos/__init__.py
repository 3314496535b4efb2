"""A whole fleet under faults, from a seed; what must hold is checked from outside at the end.

``plan`` chooses the faults, ``ground`` starts the servers, ``crew`` keeps workers running, ``load``
submits work, ``strike`` carries the faults out, ``checks`` and ``leftovers`` say what is broken,
``report`` what happened. ``run`` is all of it in order.
"""
