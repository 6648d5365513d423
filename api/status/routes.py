"""What people do on a public page that has to be written down: the application's part of it, behind `api.status.front`."""

from api.auth import Router
from api.status import subscribing, unlocking

router = Router(include_in_schema=False)
router.routes.extend((*unlocking.router.routes, *subscribing.router.routes))
