"""The exporter over HTTP: routes, exposition formats, the landing page."""
