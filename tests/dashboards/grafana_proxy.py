"""Stands in for Grafana between a button and the actions API: its allow list, its datasource proxy, its roles.

Does what Grafana's documentation and sources say, and has not been held against a running one: actions_allow_post_url
(pkg/middleware/validate_action_url.go), the proxy (pkg/api/pluginproxy/ds_proxy.go), the routes of the Alertmanager
datasource (public/app/plugins/datasource/alertmanager/plugin.json: POST, PUT and DELETE need an Editor) and its custom
headers (httpHeaderNameN in jsonData, httpHeaderValueN in secureJsonData).
"""

import fnmatch
from typing import Any

import httpx

PREFIX = "/api/datasources/proxy/uid/"


class GrafanaProxy(httpx.AsyncBaseTransport):
    """What a browser that is logged in with `role` reaches of Grafana."""

    def __init__(self, sources: list[dict[str, Any]], *, allowed: str, user: str, role: str) -> None:
        self._sources = {source["uid"]: source for source in sources}
        self._allowed = allowed.split()
        self._user = user
        self._role = role
        self._onwards = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse a request or send it on."""
        path = request.url.path
        if request.headers.get("x-grafana-action") == "1":
            is_allowed = any(fnmatch.fnmatchcase(path, glob) for glob in self._allowed)
            if request.method not in {"POST", "PUT"} or not is_allowed:
                return httpx.Response(405)
        uid, _, rest = path.removeprefix(PREFIX).partition("/")
        source = self._sources.get(uid) if path.startswith(PREFIX) else None
        if source is None or source["type"] != "alertmanager":
            return httpx.Response(404)
        if request.method in {"POST", "PUT", "DELETE"} and self._role not in {"Editor", "Admin"}:
            return httpx.Response(403, json={"message": "plugin proxy route access denied"})
        target = httpx.URL(source["url"]).copy_with(path=f"/{rest}", query=request.url.query)
        headers = {"content-length": request.headers.get("content-length", "0"), "x-grafana-user": self._user}
        for key, name in source["jsonData"].items():
            if key.startswith("httpHeaderName"):
                headers[name] = source["secureJsonData"][key.replace("Name", "Value")]
        return await self._onwards.handle_async_request(
            httpx.Request(request.method, target, headers=headers, content=await request.aread())
        )

    async def aclose(self) -> None:
        """Close the way to the API."""
        await self._onwards.aclose()
