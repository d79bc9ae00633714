-- With TimescaleDB: event tables become hypertables by ts_ns, bars continuous aggregates. Needs the licensed
-- (community) edition. Nothing of the base tables' columns changes. How long rows are kept, when they are
-- compressed and bars are refreshed is set by the drain, from its configuration.

-- Jobs call it without a search path.
CREATE FUNCTION now_ns() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT (extract(epoch FROM pg_catalog.now()) * 1000000000)::bigint $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['trade', 'quote', 'depth', 'gap', 'status', 'timer', 'command', 'order_event', 'fill',
                                'balance', 'config', 'decision', 'run_record', 'skipped']
    LOOP
        PERFORM create_hypertable(format('%I.%I', current_schema(), name)::regclass, 'ts_ns',
                                  chunk_time_interval => 86400000000000, create_default_indexes => false,
                                  migrate_data => true);
        PERFORM set_integer_now_func(format('%I.%I', current_schema(), name)::regclass,
                                     format('%I.now_ns', current_schema())::regproc);
    END LOOP;
    -- The columnstore must be enabled before a policy is added. The least and the greatest of each column of the
    -- order are kept with every batch: so rows are found by either time.
    FOREACH name IN ARRAY ARRAY['trade', 'quote', 'depth', 'order_event', 'fill', 'decision']
    LOOP
        EXECUTE format('ALTER TABLE %I SET (timescaledb.compress, timescaledb.compress_segmentby = %L, '
                       'timescaledb.compress_orderby = %L)', name, 'instrument', 'ts_ns, seq, ts');
    END LOOP;
END
$$;

DROP VIEW ohlcv_1d, ohlcv_1h, ohlcv_1m, ohlcv_1s, bar_1d, bar_1h, bar_1m, bar_1s, trade_bar;
DROP FUNCTION refresh_bars;
DROP TABLE bar_1d_kept, bar_1h_kept, bar_1m_kept, bar_1s_kept, kept_bars;

CREATE MATERIALIZED VIEW bar_1s WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT run, instrument, time_bucket(1000000000::bigint, ts_ns) AS bucket, first(price, seq) AS open,
       max(price) AS high, min(price) AS low, last(price, seq) AS close, sum(qty) AS volume, count(*) AS trades,
       min(seq) AS first_seq, max(seq) AS last_seq
FROM trade GROUP BY 1, 2, 3 WITH NO DATA;

CREATE MATERIALIZED VIEW bar_1m WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT run, instrument, time_bucket(60000000000::bigint, bucket) AS bucket, first(open, first_seq) AS open,
       max(high) AS high, min(low) AS low, last(close, last_seq) AS close, sum(volume) AS volume,
       sum(trades)::bigint AS trades, min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM bar_1s GROUP BY 1, 2, 3 WITH NO DATA;

CREATE MATERIALIZED VIEW bar_1h WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT run, instrument, time_bucket(3600000000000::bigint, bucket) AS bucket, first(open, first_seq) AS open,
       max(high) AS high, min(low) AS low, last(close, last_seq) AS close, sum(volume) AS volume,
       sum(trades)::bigint AS trades, min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM bar_1m GROUP BY 1, 2, 3 WITH NO DATA;

CREATE MATERIALIZED VIEW bar_1d WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT run, instrument, time_bucket(86400000000000::bigint, bucket) AS bucket, first(open, first_seq) AS open,
       max(high) AS high, min(low) AS low, last(close, last_seq) AS close, sum(volume) AS volume,
       sum(trades)::bigint AS trades, min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM bar_1h GROUP BY 1, 2, 3 WITH NO DATA;

CREATE VIEW ohlcv_1s AS
SELECT to_timestamp(b.bucket / 1e9) AS bucket, b.run, i.symbol, i.venue AS exchange, scaled(b.open, i.price_scale) AS open,
       scaled(b.high, i.price_scale) AS high, scaled(b.low, i.price_scale) AS low,
       scaled(b.close, i.price_scale) AS close,
       (b.volume / power(10::numeric, i.qty_scale))::numeric(38, 12) AS volume, b.trades
FROM bar_1s b JOIN instrument i USING (run, instrument);

CREATE VIEW ohlcv_1m AS
SELECT to_timestamp(b.bucket / 1e9) AS bucket, b.run, i.symbol, i.venue AS exchange, scaled(b.open, i.price_scale) AS open,
       scaled(b.high, i.price_scale) AS high, scaled(b.low, i.price_scale) AS low,
       scaled(b.close, i.price_scale) AS close,
       (b.volume / power(10::numeric, i.qty_scale))::numeric(38, 12) AS volume, b.trades
FROM bar_1m b JOIN instrument i USING (run, instrument);

CREATE VIEW ohlcv_1h AS
SELECT to_timestamp(b.bucket / 1e9) AS bucket, b.run, i.symbol, i.venue AS exchange, scaled(b.open, i.price_scale) AS open,
       scaled(b.high, i.price_scale) AS high, scaled(b.low, i.price_scale) AS low,
       scaled(b.close, i.price_scale) AS close,
       (b.volume / power(10::numeric, i.qty_scale))::numeric(38, 12) AS volume, b.trades
FROM bar_1h b JOIN instrument i USING (run, instrument);

CREATE VIEW ohlcv_1d AS
SELECT to_timestamp(b.bucket / 1e9) AS bucket, b.run, i.symbol, i.venue AS exchange, scaled(b.open, i.price_scale) AS open,
       scaled(b.high, i.price_scale) AS high, scaled(b.low, i.price_scale) AS low,
       scaled(b.close, i.price_scale) AS close,
       (b.volume / power(10::numeric, i.qty_scale))::numeric(38, 12) AS volume, b.trades
FROM bar_1d b JOIN instrument i USING (run, instrument);
