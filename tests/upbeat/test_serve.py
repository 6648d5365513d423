"""What `upbeat serve` starts besides itself."""

from upbeat.serve import worker_command
from upbeat.settings import serve_settings


def test_a_worker_does_no_more_than_the_process_that_starts_it() -> None:
    assert worker_command(serve_settings({}))[-2:] == ["--roles", "evaluator,probe"]
    probing = serve_settings({}, roles="api,probe", regions="eu, us")
    assert worker_command(probing)[-4:] == ["--roles", "probe", "--regions", "eu,us"]
    assert worker_command(serve_settings({}, roles="api,exporter")) == []
