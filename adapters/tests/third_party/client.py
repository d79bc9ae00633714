"""Subscribes to a simulated exchange with the `websockets` library, as any client of the venue would.

usage: client.py VENUE WS_URL REST_URL [CA_FILE]

Prints one JSON line with what came. Exit status 0 if acknowledgements, a snapshot and updates did.
Knows the venues' descriptions only, nothing of kairos.
"""

import asyncio
import json
import ssl
import sys
import urllib.request

import websockets

VENUE, WS_URL, REST_URL = sys.argv[1:4]
CONTEXT = None
if len(sys.argv) > 4:
    CONTEXT = ssl.create_default_context(cafile=sys.argv[4])
UPDATES = 20


def rest(path, method="GET"):
    request = urllib.request.Request(REST_URL + path, method=method)
    with urllib.request.urlopen(request, context=CONTEXT, timeout=20) as reply:
        return json.loads(reply.read())


async def frames(socket, done, seen):
    while not done(seen):
        text = await asyncio.wait_for(socket.recv(), 30)
        yield text if text == "pong" else json.loads(text)


def connect(url):
    options = {"ssl": CONTEXT} if url.startswith("wss") else {}
    return websockets.connect(url, max_size=64 << 20, **options)


async def binance(seen):
    symbols = [it["symbol"] for it in rest("/api/v3/exchangeInfo")["symbols"]]
    assert "BTCUSDT" in symbols, symbols
    async with connect(WS_URL + "/stream") as socket:
        names = ["btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms"]
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 7}))
        last, book = None, None
        async for frame in frames(socket, lambda it: it["updates"] >= UPDATES, seen):
            if "result" in frame:
                assert frame == {"result": None, "id": 7}, frame
                seen["acks"] += 1
                continue
            data = frame["data"]
            if data.get("e") != "depthUpdate":
                continue
            if last is not None:
                assert data["U"] == last + 1, (data["U"], last)
            last = data["u"]
            if book is None:
                book = await asyncio.to_thread(rest, "/api/v3/depth?symbol=BTCUSDT&limit=1000")
                assert book["lastUpdateId"] >= data["U"] and book["bids"] and book["asks"]
                seen["snapshots"] += 1
            seen["updates"] += 1


async def okx(seen):
    listed = rest("/api/v5/public/instruments?instType=SPOT")
    assert listed["code"] == "0" and listed["data"][0]["state"] == "live", listed
    async with connect(WS_URL) as socket:
        await socket.send("ping")
        assert await socket.recv() == "pong"
        args = [{"channel": it, "instId": "BTC-USDT"} for it in ("books", "trades")]
        args.append({"channel": "books", "instId": "NO-SUCH"})
        await socket.send(json.dumps({"op": "subscribe", "args": args}))
        last = None
        async for frame in frames(socket, lambda it: it["updates"] >= UPDATES, seen):
            if "event" in frame:
                if frame["event"] == "error":
                    assert frame["code"] == "60018" and "NO-SUCH" in frame["msg"], frame
                    seen["errors"] += 1
                seen["acks"] += frame["event"] == "subscribe"
            elif frame["arg"]["channel"] == "books":
                book = frame["data"][0]
                if frame["action"] == "snapshot":
                    assert book["prevSeqId"] == -1, book
                    seen["snapshots"] += 1
                else:
                    assert book["prevSeqId"] == last, (book["prevSeqId"], last)
                    seen["updates"] += 1
                last = book["seqId"]


async def coinbase(seen):
    listed = rest("/api/v3/brokerage/market/products")
    assert any(it["product_id"] == "BTC-USD" for it in listed["products"]), listed
    async with connect(WS_URL) as socket:
        for channel in ("heartbeats", "level2", "market_trades"):
            wish = {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": channel}
            await socket.send(json.dumps(wish))
        want = 0
        async for frame in frames(socket, lambda it: it["updates"] >= UPDATES, seen):
            assert frame["sequence_num"] == want, (frame["sequence_num"], want)
            want += 1
            seen["acks"] += frame["channel"] == "subscriptions"
            if frame["channel"] == "l2_data":
                kind = frame["events"][0]["type"]
                seen["snapshots"] += kind == "snapshot"
                seen["updates"] += kind == "update"


async def kraken(seen):
    listed = rest("/0/public/AssetPairs")
    assert listed["error"] == [] and "XBTUSD" in listed["result"], listed
    async with connect(WS_URL) as socket:
        for channel in ("book", "trade"):
            params = {"channel": channel, "symbol": ["BTC/USD", "ETH/USD"]}
            await socket.send(json.dumps({"method": "subscribe", "params": params, "req_id": 5}))
        async for frame in frames(socket, lambda it: it["updates"] >= UPDATES, seen):
            if frame.get("method") == "subscribe":
                assert frame["success"] and frame["req_id"] == 5, frame
                seen["acks"] += 1
            elif frame["channel"] == "book":
                seen["snapshots"] += frame["type"] == "snapshot"
                seen["updates"] += frame["type"] == "update"


async def kucoin(seen):
    symbols = [it["symbol"] for it in rest("/api/v2/symbols")["data"]]
    assert "BTC-USDT" in symbols, symbols
    bullet = rest("/api/v1/bullet-public", "POST")["data"]
    url = f"{bullet['instanceServers'][0]['endpoint']}?token={bullet['token']}&connectId=c1"
    async with connect(url) as socket:
        assert json.loads(await socket.recv()) == {"id": "c1", "type": "welcome"}
        wish = {"id": 1, "type": "subscribe", "topic": "/market/level2:BTC-USDT,ETH-USDT"}
        await socket.send(json.dumps(wish | {"privateChannel": False, "response": True}))
        last, book = {}, None
        async for frame in frames(socket, lambda it: it["updates"] >= UPDATES, seen):
            if frame["type"] != "message":
                assert frame == {"id": "1", "type": "ack"}, frame
                seen["acks"] += 1
                continue
            data = frame["data"]
            symbol = data["symbol"]
            if symbol in last:
                assert data["sequenceStart"] == last[symbol] + 1, data
            last[symbol] = data["sequenceEnd"]
            if book is None:
                path = f"/api/v1/market/orderbook/level2_100?symbol={symbol}"
                book = (await asyncio.to_thread(rest, path))["data"]
                assert int(book["sequence"]) >= data["sequenceEnd"], book["sequence"]
                seen["snapshots"] += 1
            seen["updates"] += 1


SEEN = {"acks": 0, "snapshots": 0, "updates": 0, "errors": 0}
asyncio.run(globals()[VENUE](SEEN))
print(json.dumps(SEEN))
sys.exit(0 if SEEN["acks"] and SEEN["snapshots"] and SEEN["updates"] >= UPDATES else 1)
