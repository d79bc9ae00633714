-- Bars over the trades, in integers, and the same with decimals. With TimescaleDB the first three become
-- continuous aggregates (1001). Ties within one nanosecond are told apart by seq.

CREATE VIEW bar_1s AS
SELECT run, instrument, (ts_ns / 1000000000) * 1000000000 AS bucket,
       (array_agg(price ORDER BY seq))[1] AS open, max(price) AS high, min(price) AS low,
       (array_agg(price ORDER BY seq DESC))[1] AS close, sum(qty) AS volume, count(*) AS trades,
       min(seq) AS first_seq, max(seq) AS last_seq
FROM trade GROUP BY 1, 2, 3;

CREATE VIEW bar_1m AS
SELECT run, instrument, (bucket / 60000000000) * 60000000000 AS bucket,
       (array_agg(open ORDER BY first_seq))[1] AS open, max(high) AS high, min(low) AS low,
       (array_agg(close ORDER BY last_seq DESC))[1] AS close, sum(volume) AS volume, sum(trades)::bigint AS trades,
       min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM bar_1s GROUP BY 1, 2, 3;

CREATE VIEW bar_1h AS
SELECT run, instrument, (bucket / 3600000000000) * 3600000000000 AS bucket,
       (array_agg(open ORDER BY first_seq))[1] AS open, max(high) AS high, min(low) AS low,
       (array_agg(close ORDER BY last_seq DESC))[1] AS close, sum(volume) AS volume, sum(trades)::bigint AS trades,
       min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM bar_1m GROUP BY 1, 2, 3;

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
