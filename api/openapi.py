"""OpenAPI 3.1 from the routes and the rules, and a page that shows it with nothing loaded from elsewhere."""

import html
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.auth import GuardedRoute, Permission, Router, permits
from api.body import reply

_REF = "#/components/schemas/{model}"
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

router = Router(prefix="/api/v1", tags=["api"], include_in_schema=False)


@router.get("/openapi.json")
@permits(Permission.PUBLIC)
async def openapi(request: Request) -> Response:
    """The description of this API."""
    return reply(document(request.app))


@router.get("/docs")
@permits(Permission.PUBLIC)
async def docs(request: Request) -> Response:
    """The same, to be read."""
    rows = [
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(operation.get('description') or operation.get('summary', ''))}</td>"
        f"<td>{html.escape(operation['x-permission'])}</td></tr>"
        for path, operations in document(request.app)["paths"].items()
        for method, operation in operations.items()
    ]
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>Upbeat API</title><h1>Upbeat API</h1>"
        "<p>The whole description, for tools: <a href='openapi.json'>openapi.json</a></p>"
        "<table><caption>Operations</caption><thead><tr><th scope=col>Method<th scope=col>Path"
        f"<th scope=col>What it does<th scope=col>Needs</thead><tbody>{''.join(rows)}</tbody></table></html>"
    )


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `app`, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _made(app)
    return app.openapi_schema


def _made(app: FastAPI) -> dict[str, Any]:
    routes = [r for r in app.routes if isinstance(r, GuardedRoute) and r.include_in_schema]
    made = get_openapi(title=app.title, version=app.version, openapi_version="3.1.0", routes=routes)
    schemas: dict[str, Any] = made.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    made["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": "upbeat"},
    }
    problem = {"schema": {"$ref": _REF.format(model="Problem")}}
    for route in routes:
        for method in route.methods or ():
            operation = made["paths"][route.path_format][method.lower()]
            operation["x-permission"] = route.declared.permission.name.lower()
            if route.declared.permission is not Permission.PUBLIC:
                operation["security"] = [{"token": []}, {"session": []}]
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {
                "description": "A problem (RFC 9457)",
                "content": {"application/problem+json": problem},
            }
            _describe_answer(operation, getattr(route.endpoint, "gives", None), schemas)
            body = getattr(route.endpoint, "body", None)
            if body is not None:
                operation["requestBody"] = _body(body, schemas)
    return made


def _describe_answer(
    operation: dict[str, Any], gives: tuple[type[Any], bool] | None, schemas: dict[str, Any]
) -> None:
    if gives is None:
        return
    shape, is_listed = gives
    (schema,), found = msgspec.json.schema_components([shape], ref_template="#/components/schemas/{name}")
    _name(schemas, msgspec.json.decode(msgspec.json.encode(found)))  # a default may be a tuple
    if is_listed:
        items = {"items": {"type": "array", "items": schema}, "next": {"type": ["string", "null"]}}
        schema = {"type": "object", "required": list(items), "properties": items}
    good = next(status for status in operation["responses"] if status.startswith("2"))
    operation["responses"][good]["content"] = {"application/json": {"schema": schema}}


def _name(schemas: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Add what was found. Raises `TypeError` where a name is that of something else already."""
    for name, schema in found.items():
        if schemas.setdefault(name, schema).get("properties") != schema.get("properties"):
            raise TypeError(f"two shapes are called {name}")


def _body(model: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if model is str:
        return {"required": True, "content": {"application/yaml": {"schema": {"type": "string"}}}}
    schema = TypeAdapter(model).json_schema(ref_template=_REF)
    _name(schemas, schema.pop("$defs", {}))
    return {"required": True, "content": {"application/json": {"schema": schema}}}
