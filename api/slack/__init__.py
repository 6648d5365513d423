"""Slack: workspaces and users are connected, and what people do there is what they may do here. Messages are exporters' to send."""

from api.slack import connection, requests

ROUTERS = (connection.router, connection.rest, requests.router)
