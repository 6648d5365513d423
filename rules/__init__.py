"""What operators write: pydantic models, selections, templates and address policy. Pure: nothing here waits or looks around."""
