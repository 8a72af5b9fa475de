"""The actions API over HTTP: routes, request parameters, responses, middleware, documentation page."""
