"""The verb greet: print the name of the guest."""

from __future__ import annotations

from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options, command
from qtctl.text.style import escaped


@command("greet", examples=("qtctl -t vm1 greet",))
async def greet(context: Context, options: Options) -> Result:
    """Print the guest's ``-name``."""
    async with context.attached() as session:
        answer = await session.monitor.execute("query-name")
    name = str(answer.get("name", "nobody"))
    return Result({"name": name}, lambda style: [f"hello {escaped(name)}"])
