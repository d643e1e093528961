"""The Hugging Face Hub: publish students, list what others published, deploy the app as a Space."""

from kdgen.hub.deploy import deploy
from kdgen.hub.listing import Published, published
from kdgen.hub.pull import pull
from kdgen.hub.push import Pushed, push_to_hub

__all__ = ["Published", "Pushed", "deploy", "published", "pull", "push_to_hub"]
