-- What a person asks: decimals, names, words. The tables behind stand in 0001.
--
-- order_key is order_id as the tables have it: WHERE order_key = order_bits('3-17') finds it by an index. What
-- the journal does not hold is null.

CREATE FUNCTION unsigned_id(id bigint) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN id < 0 THEN id::numeric + 18446744073709551616 ELSE id::numeric END;

-- Order ids are written <run>-<counter>.
CREATE FUNCTION order_text(id bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((id >> 40) & 16777215)::text || '-' || (id & 1099511627775)::text;

-- And back.
CREATE FUNCTION order_bits(id text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (split_part(id, '-', 1)::bigint << 40) | split_part(id, '-', 2)::bigint;

CREATE FUNCTION scaled(units bigint, scale integer) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (units / power(10::numeric, scale))::numeric(38, 12);

CREATE FUNCTION word_of(kind text, value smallint) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (SELECT w.word FROM word w WHERE w."of" = kind AND w.number = value);

CREATE VIEW market_ticks AS
SELECT t.seq, t.run, t.ts AS time, i.symbol, i.venue AS exchange, scaled(t.price, i.price_scale) AS price,
       scaled(t.qty, i.qty_scale) AS volume, CASE t.side WHEN 0 THEN 'BUY' ELSE 'SELL' END AS side,
       unsigned_id(t.trade_id)::text AS trade_id, t.venue_ns AS exchange_ns, t.ts_ns AS recv_ns
FROM trade t JOIN instrument i USING (run, instrument);

CREATE VIEW quotes AS
SELECT q.seq, q.run, q.ts AS time, i.symbol, i.venue AS exchange, scaled(q.bid, i.price_scale) AS bid_price,
       scaled(q.bid_qty, i.qty_scale) AS bid_volume, scaled(q.ask, i.price_scale) AS ask_price,
       scaled(q.ask_qty, i.qty_scale) AS ask_volume, q.venue_ns AS exchange_ns, q.ts_ns AS recv_ns
FROM quote q JOIN instrument i USING (run, instrument);

CREATE VIEW signals AS
SELECT d.seq, d.run, d.ts AS time, coalesce(s.name, '#' || d.strategy) AS strategy_id, i.symbol,
       i.venue AS exchange, CASE d.side WHEN 0 THEN 'BUY' ELSE 'SELL' END AS side,
       (d.confidence / 10000.0)::numeric(5, 4) AS confidence, scaled(d.qty, i.qty_scale) AS size,
       scaled(d.price, i.price_scale) AS price, word_of('reason', d.reason) AS reason,
       jsonb_build_object('order_id', order_text(d.order_id), 'cause', d.cause, 'tag', d.tag,
                          'type', word_of('order_type', d.order_type), 'tif', word_of('tif', d.tif)) AS payload
FROM decision d
LEFT JOIN instrument i USING (run, instrument)
LEFT JOIN strategy s USING (run, strategy)
WHERE d.action = 1;

CREATE VIEW risk_checks AS
SELECT d.seq, d.run, d.ts AS time, order_text(d.order_id) AS order_id, d.order_id AS order_key, d.cause AS signal_seq,
       d.approved, word_of('code', d.code) AS reason,
       d.code AS reason_code, upper(word_of('risk_state', d.risk_state)) AS state,
       scaled(d.notional, 8) AS projected_notional, d.found, d.limit_value,
       jsonb_build_object('order_id', order_text(d.order_id), 'strategy', coalesce(s.name, '#' || d.strategy),
                          'action', word_of('action', d.action), 'symbol', i.symbol, 'exchange', i.venue,
                          'side', CASE d.side WHEN 0 THEN 'BUY' ELSE 'SELL' END,
                          'type', word_of('order_type', d.order_type), 'tif', word_of('tif', d.tif),
                          'price', scaled(d.price, i.price_scale), 'quantity', scaled(d.qty, i.qty_scale),
                          'reduce_only', d.reduce_only, 'post_only', d.post_only) AS order_payload
FROM decision d
LEFT JOIN instrument i USING (run, instrument)
LEFT JOIN strategy s USING (run, strategy)
WHERE d.action IN (1, 2);

CREATE VIEW fills AS
SELECT f.seq, f.run, f.ts AS time, order_text(f.order_id) AS order_id, f.order_id AS order_key,
       order_text(f.order_id) AS client_order_id, NULL::text AS trade_id, i.symbol, i.venue AS exchange,
       CASE f.side WHEN 0 THEN 'BUY' ELSE 'SELL' END AS side, scaled(f.qty, i.qty_scale) AS quantity,
       scaled(f.price, i.price_scale) AS price, NULL::numeric(38, 12) AS raw_price, scaled(f.fee, 8) AS fee,
       i.quote AS fee_currency,
       -- Of a limit order: how much worse than its limit, negative is better.
       CASE WHEN d.price > 0 THEN scaled(CASE f.side WHEN 0 THEN f.price - d.price ELSE d.price - f.price END,
                                         i.price_scale) END AS slippage,
       CASE WHEN f.maker THEN 'MAKER' ELSE 'TAKER' END AS liquidity,
       s.name AS strategy_id, word_of('reason', d.reason) AS reason,
       CASE WHEN i.mode = 'live' THEN 'REAL' ELSE 'PAPER' END AS mode, f.venue_ns AS exchange_ns, f.ts_ns AS recv_ns
FROM fill f
JOIN instrument i USING (run, instrument)
LEFT JOIN decision d ON d.order_id = f.order_id AND d.run = f.run AND d.action = 1 AND d.approved
LEFT JOIN strategy s ON s.run = d.run AND s.strategy = d.strategy;

-- Every change of an order: what was decided, what became of it, what it traded.
CREATE VIEW order_events AS
SELECT e.seq, e.run, e.ts AS time, order_text(e.order_id) AS order_id, e.order_id AS order_key,
       order_text(e.order_id) AS client_order_id, NULL::text AS venue_order_id, i.symbol, i.venue AS exchange, upper(e.status) AS status, scaled(e.filled, i.qty_scale) AS filled_quantity,
       scaled(e.price, i.price_scale) AS avg_price, nullif(word_of('code', e.code), 'none') AS reason,
       e.code AS reason_code, e.details
FROM (
    SELECT seq, run, ts, instrument, order_id, word_of('order_state', state) AS status, NULL::bigint AS filled,
           NULL::bigint AS price, code,
           jsonb_build_object('frame', 'report', 'remaining_units', remaining, 'venue_ns', venue_ns) AS details
    FROM order_event
    UNION ALL
    SELECT seq, run, ts, instrument, order_id, 'filled', qty, price, 0::smallint,
           jsonb_build_object('frame', 'fill', 'fee', scaled(fee, 8), 'maker', maker, 'venue_ns', venue_ns)
    FROM fill
    UNION ALL
    SELECT seq, run, ts, instrument, order_id,
           CASE WHEN NOT approved THEN 'denied' WHEN action = 2 THEN 'cancel' ELSE 'approved' END,
           NULL, NULL, code,
           jsonb_build_object('frame', 'decision', 'cause', cause, 'found', found, 'limit', limit_value)
    FROM decision WHERE action IN (1, 2)
) e
LEFT JOIN instrument i USING (run, instrument);

CREATE VIEW orders AS
SELECT order_text(d.order_id) AS order_id, d.order_id AS order_key, order_text(d.order_id) AS client_order_id,
       NULL::text AS venue_order_id, d.run, d.ts AS created_at,
       greatest(d.ts, last.ts, f.last_ts) AS updated_at, f.last_ts AS executed_at, i.symbol, i.venue AS exchange,
       CASE d.side WHEN 0 THEN 'BUY' ELSE 'SELL' END AS side, upper(word_of('order_type', d.order_type)) AS order_type,
       upper(word_of('tif', d.tif)) AS tif, d.reduce_only, d.post_only, scaled(d.qty, i.qty_scale) AS quantity,
       nullif(scaled(d.price, i.price_scale), 0) AS price, NULL::numeric(38, 12) AS stop_price, coalesce(scaled(f.qty, i.qty_scale), 0) AS filled_quantity,
       (f.value / nullif(f.qty, 0) / power(10::numeric, i.price_scale))::numeric(38, 12) AS avg_price,
       upper(CASE
           WHEN NOT d.approved THEN 'denied'
           WHEN f.qty >= d.qty THEN 'filled'
           WHEN last.state IN (1, 5, 6, 7, 8) THEN word_of('order_state', last.state)
           WHEN f.qty > 0 THEN 'partially_filled'
           WHEN last.state IS NULL THEN 'approved'
           ELSE word_of('order_state', last.state)
       END) AS status,
       CASE WHEN i.mode = 'live' THEN 'REAL' ELSE 'PAPER' END AS mode, s.name AS strategy_id,
       CASE WHEN NOT d.approved THEN word_of('code', d.code) ELSE nullif(word_of('code', last.code), 'none') END AS reason,
       greatest(d.seq, last.seq, f.last_seq) AS last_seq
FROM decision d
JOIN instrument i USING (run, instrument)
LEFT JOIN strategy s ON s.run = d.run AND s.strategy = d.strategy
LEFT JOIN LATERAL (
    SELECT e.seq, e.ts, e.state, e.code FROM order_event e
    WHERE e.order_id = d.order_id AND e.run = d.run AND e.state <> 9
    ORDER BY e.seq DESC LIMIT 1
) last ON true
LEFT JOIN LATERAL (
    SELECT sum(x.qty)::bigint AS qty, sum(x.qty::numeric * x.price) AS value, max(x.ts) AS last_ts, max(x.seq) AS last_seq
    FROM fill x WHERE x.order_id = d.order_id AND x.run = d.run
) f ON true
WHERE d.action = 1;

CREATE VIEW risk_events AS
SELECT d.seq, d.run, d.ts AS time, word_of('trigger', d.tag::smallint) AS actor, word_of('action', d.action) AS action,
       upper(word_of('risk_state', d.risk_state)) AS state,
       upper(word_of('risk_state', lag(d.risk_state) OVER (PARTITION BY d.run ORDER BY d.seq))) AS previous_state,
       word_of('code', d.code) AS reason, 'risk' AS source, NULL::timestamptz AS cooldown_until,
       jsonb_build_object('cause', d.cause, 'found', d.found, 'limit', d.limit_value) AS details
FROM decision d
WHERE d.action = 3;

CREATE VIEW control_commands AS
SELECT c.seq, c.run, c.ts AS time, NULL::uuid AS command_id, NULL::text AS actor, NULL::text AS source,
       word_of('verb', c.verb) AS command, jsonb_build_object('argument', c.argument) AS payload, NULL::text AS result,
       NULL::text AS error
FROM command c;

CREATE VIEW feed_events AS
SELECT g.seq, g.run, g.ts AS time, i.venue AS exchange, i.symbol, 'gap' AS kind,
       jsonb_build_object('reason', word_of('gap_reason', g.reason), 'expected', unsigned_id(g.expected),
                          'found', unsigned_id(g.found)) AS details
FROM gap g LEFT JOIN instrument i USING (run, instrument)
UNION ALL
SELECT s.seq, s.run, s.ts, v.name, i.symbol, word_of('status', s.code), jsonb_build_object('detail', s.detail, 'more', s.more)
FROM status s
LEFT JOIN venue v USING (run, venue)
LEFT JOIN instrument i ON i.run = s.run AND i.instrument = s.instrument
WHERE s.code < 16;

-- The newest that a venue said of each currency, in the newest run that said anything.
CREATE VIEW balances AS
SELECT DISTINCT ON (b.venue, b.currency) c.name AS asset, v.name AS exchange, upper(v.mode) AS mode,
       scaled(b.available, 8) AS available, scaled(b.total - b.available, 8) AS locked, scaled(b.total, 8) AS total,
       b.ts AS updated_at, b.seq AS last_seq
FROM balance b
JOIN venue v USING (run, venue)
JOIN currency c USING (run, currency)
WHERE b.run = (SELECT max(run) FROM balance)
ORDER BY b.venue, b.currency, b.seq DESC;

-- A position by its fills: quantity, cost (price times quantity, with its sign), realised profit, in units. What
-- adds to a position moves its average price, what takes from it does not.
CREATE FUNCTION position_step(held numeric[], side smallint, price bigint, qty bigint) RETURNS numeric[]
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
$$
DECLARE
    change numeric := CASE side WHEN 0 THEN qty ELSE -qty END;
    was numeric := held[1];
    after numeric := held[1] + change;
    closed numeric;
BEGIN
    IF was = 0 OR sign(was) = sign(change) THEN
        RETURN ARRAY[after, held[2] + price * change, held[3]];
    END IF;
    -- So much of what was held, with its sign.
    closed := sign(was) * least(abs(was), abs(change));
    RETURN ARRAY[
        after,
        CASE WHEN sign(after) = sign(was) THEN held[2] * after / was ELSE price * after END,
        held[3] + price * closed - held[2] * closed / was];
END
$$;

CREATE AGGREGATE position_of(side smallint, price bigint, qty bigint) (
    sfunc = position_step, stype = numeric[], initcond = '{0,0,0}');

-- What the fills of the newest run add up to: a run begins with the account that its configuration or its
-- venue gives it. Profit is before fees.
CREATE VIEW positions AS
SELECT i.symbol, i.venue AS exchange, CASE WHEN i.mode = 'live' THEN 'REAL' ELSE 'PAPER' END AS mode,
       scaled(p.held[1]::bigint, i.qty_scale) AS quantity,
       (p.held[2] / nullif(p.held[1], 0) / power(10::numeric, i.price_scale))::numeric(38, 12) AS average_price,
       (p.held[3] / power(10::numeric, i.qty_scale + i.price_scale))::numeric(38, 12) AS realized_pnl,
       scaled(p.bought, i.qty_scale) AS bought, scaled(p.sold, i.qty_scale) AS sold,
       (p.cash / power(10::numeric, i.qty_scale + i.price_scale))::numeric(38, 12) AS cash_flow,
       scaled(p.fee, 8) AS fees, p.fills, p.updated_at, p.last_seq
FROM (
    SELECT f.run, f.instrument, position_of(f.side, f.price, f.qty ORDER BY f.seq) AS held,
           coalesce(sum(f.qty) FILTER (WHERE f.side = 0), 0)::bigint AS bought,
           coalesce(sum(f.qty) FILTER (WHERE f.side = 1), 0)::bigint AS sold,
           sum(CASE f.side WHEN 0 THEN -1 ELSE 1 END * f.qty::numeric * f.price) AS cash,
           sum(f.fee)::bigint AS fee, count(*) AS fills, max(f.ts) AS updated_at, max(f.seq) AS last_seq
    FROM fill f
    WHERE f.run = (SELECT max(run) FROM run)
    GROUP BY f.run, f.instrument
) p
JOIN instrument i USING (run, instrument);

CREATE VIEW runs AS
SELECT r.run AS run_id, r.run AS epoch,
       CASE WHEN EXISTS (SELECT FROM venue v WHERE v.run = r.run AND v.mode = 'live') THEN 'LIVE' ELSE 'PAPER' END AS mode,
       to_timestamp(r.started_ns / 1e9) AS started_at, to_timestamp(r.ended_ns / 1e9) AS ended_at, r.build AS version,
       encode(sha256(convert_to(r.config, 'UTF8')), 'hex') AS config_hash, r.seed, r.status AS end_state, r.first_seq,
       r.last_seq
FROM run r;

CREATE VIEW drain_offsets AS
SELECT o.sink, o.next_seq, o.epoch AS fence, o.run, o.owner, o.updated_at FROM drain_offset o;

-- Where the time went, order by order: from the bytes of the input to the bytes of the order.
CREATE VIEW order_latency AS
SELECT d.run, d.seq, d.ts AS time, order_text(d.order_id) AS order_id, i.symbol, i.venue AS exchange,
       d.in_ns - d.recv_ns AS recv_to_in_ns, d.strategy_ns - d.in_ns AS in_to_strategy_ns,
       d.risk_ns - d.strategy_ns AS strategy_to_risk_ns, e.stamp_ns - d.risk_ns AS risk_to_sent_ns,
       e.stamp_ns - d.recv_ns AS tick_to_order_ns
FROM decision d
JOIN instrument i USING (run, instrument)
LEFT JOIN order_event e ON e.order_id = d.order_id AND e.run = d.run AND e.state = 2
WHERE d.action = 1;

-- The same, one row per stage and step of time, for a span that the index finds.
CREATE FUNCTION latency_of(first timestamptz, behind timestamptz, step interval)
    RETURNS TABLE ("time" timestamptz, stage text, count bigint, p50_ns bigint, p90_ns bigint, p99_ns bigint, p999_ns bigint,
                   p9999_ns bigint, max_ns bigint)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT date_bin(step, l.time, timestamptz '2000-01-01 00:00:00Z'), stage.name, count(*),
       percentile_disc(0.5) WITHIN GROUP (ORDER BY stage.ns), percentile_disc(0.9) WITHIN GROUP (ORDER BY stage.ns),
       percentile_disc(0.99) WITHIN GROUP (ORDER BY stage.ns), percentile_disc(0.999) WITHIN GROUP (ORDER BY stage.ns),
       percentile_disc(0.9999) WITHIN GROUP (ORDER BY stage.ns), max(stage.ns)
FROM order_latency l
CROSS JOIN LATERAL (VALUES ('recv→in', l.recv_to_in_ns), ('in→strategy', l.in_to_strategy_ns),
    ('strategy→risk', l.strategy_to_risk_ns), ('risk→sent', l.risk_to_sent_ns),
    ('tick→order', l.tick_to_order_ns)) AS stage (name, ns)
WHERE l.time >= first AND l.time < behind AND stage.ns IS NOT NULL
GROUP BY 1, 2;
END;

-- One row per stage and second, of all times.
CREATE VIEW latency AS
SELECT * FROM latency_of('-infinity', 'infinity', interval '1 second');
