"""The public status page: what customers read, computed from what was approved and from manual settings only."""

from api.status.addresses import Addresses
from api.status.front import Front
from api.status.routes import router

__all__ = ["Addresses", "Front", "router"]
