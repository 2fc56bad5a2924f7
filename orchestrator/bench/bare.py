"""A process of the pipeline's floor: creates of the same size, by httpx over the same transport, and nothing else."""

import argparse
import asyncio
import sys

import httpx
import orjson
import uvloop
from httpx_aiohttp import AiohttpTransport

from orchestrator.bench.people import joiner
from orchestrator.domain.scim_diff import create_body


async def _call(urls: list[str], calls: int, first: int, concurrency: int) -> None:
    bodies = [
        orjson.dumps(create_body({**orjson.loads(joiner(number).value)["attributes"], "userName": f"floor{number}"}))
        for number in range(first, first + calls)
    ]
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    headers = {"content-type": "application/scim+json"}
    async with httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=60, headers=headers) as client:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)

        async def some() -> None:
            while bodies:
                answer = await client.post(f"{urls[len(bodies) % len(urls)]}/Users", content=bodies.pop())
                answer.raise_for_status()

        await asyncio.gather(*(some() for _ in range(concurrency)))


def main() -> None:
    """Get ready, wait for a line, call, end."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.bench.bare", description=__doc__)
    parser.add_argument("urls", nargs="+", help="base URLs of applications")
    parser.add_argument("--calls", type=int, required=True, help="how many")
    parser.add_argument("--first", type=int, required=True, help="number of the first account")
    parser.add_argument("--concurrency", type=int, required=True, help="calls at once")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_call(given.urls, given.calls, given.first, given.concurrency))


if __name__ == "__main__":
    main()
