-- Bars over the trades, in integers, and the same with decimals. Ties within one nanosecond are told apart by
-- seq.
--
-- Without TimescaleDB the tables *_kept hold the bars of all trades up to kept_bars.done_seq, and a view adds the
-- trades behind it: bars are always up to date. The drain calls refresh_bars every ten seconds. With TimescaleDB
-- continuous aggregates take the place of all this (1001).

CREATE TABLE kept_bars (done_seq bigint NOT NULL);
INSERT INTO kept_bars VALUES (0);

CREATE TABLE bar_1s_kept (
    run        bigint  NOT NULL,
    instrument integer NOT NULL,
    bucket     bigint  NOT NULL,
    open       bigint  NOT NULL,
    high       bigint  NOT NULL,
    low        bigint  NOT NULL,
    close      bigint  NOT NULL,
    volume     numeric NOT NULL,
    trades     bigint  NOT NULL,
    first_seq  bigint  NOT NULL,
    last_seq   bigint  NOT NULL,
    PRIMARY KEY (bucket, instrument, run)
);
CREATE TABLE bar_1m_kept (LIKE bar_1s_kept INCLUDING INDEXES);
CREATE TABLE bar_1h_kept (LIKE bar_1s_kept INCLUDING INDEXES);
CREATE TABLE bar_1d_kept (LIKE bar_1s_kept INCLUDING INDEXES);

-- Adds the trades of the next "most" numbers up to "until". Says whether more are left.
CREATE FUNCTION refresh_bars(until bigint, most bigint) RETURNS boolean LANGUAGE plpgsql AS
$$
DECLARE
    done   bigint;
    behind bigint;
    width  record;
BEGIN
    SELECT done_seq INTO done FROM kept_bars FOR UPDATE;
    IF done >= until THEN
        RETURN false;
    END IF;
    behind := least(until, done + most);
    FOR width IN
        SELECT * FROM (VALUES ('bar_1s_kept', 1000000000), ('bar_1m_kept', 60000000000), ('bar_1h_kept', 3600000000000),
                              ('bar_1d_kept', 86400000000000)) AS it (kept, ns)
    LOOP
        EXECUTE format(
            'INSERT INTO %I AS kept
             SELECT run, instrument, ts_ns / $3 * $3, (min(ARRAY[seq, price]))[2], max(price), min(price),
                    (max(ARRAY[seq, price]))[2], sum(qty), count(*), min(seq), max(seq)
             FROM trade WHERE seq > $1 AND seq <= $2 GROUP BY 1, 2, 3
             ON CONFLICT (bucket, instrument, run) DO UPDATE SET
                 high = greatest(kept.high, excluded.high), low = least(kept.low, excluded.low),
                 close = excluded.close, volume = kept.volume + excluded.volume,
                 trades = kept.trades + excluded.trades, last_seq = excluded.last_seq',
            width.kept) USING done, behind, width.ns::bigint;
    END LOOP;
    UPDATE kept_bars SET done_seq = behind;
    RETURN behind < until;
END
$$;

-- The trades that are in no kept bar yet, each as a bar of its own.
CREATE VIEW trade_bar AS
SELECT run, instrument, ts_ns, price AS open, price AS high, price AS low, price AS close, qty::numeric AS volume,
       1::bigint AS trades, seq AS first_seq, seq AS last_seq
FROM trade WHERE seq > (SELECT done_seq FROM kept_bars);

CREATE VIEW bar_1s AS
SELECT run, instrument, bucket, (array_agg(open ORDER BY first_seq))[1] AS open, max(high) AS high, min(low) AS low,
       (array_agg(close ORDER BY last_seq DESC))[1] AS close, sum(volume) AS volume, sum(trades)::bigint AS trades,
       min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM (
    SELECT * FROM bar_1s_kept
    UNION ALL
    SELECT run, instrument, ts_ns / 1000000000 * 1000000000, open, high, low, close, volume, trades, first_seq, last_seq FROM trade_bar
) it
GROUP BY run, instrument, bucket;

CREATE VIEW bar_1m AS
SELECT run, instrument, bucket, (array_agg(open ORDER BY first_seq))[1] AS open, max(high) AS high, min(low) AS low,
       (array_agg(close ORDER BY last_seq DESC))[1] AS close, sum(volume) AS volume, sum(trades)::bigint AS trades,
       min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM (
    SELECT * FROM bar_1m_kept
    UNION ALL
    SELECT run, instrument, ts_ns / 60000000000 * 60000000000, open, high, low, close, volume, trades, first_seq, last_seq FROM trade_bar
) it
GROUP BY run, instrument, bucket;

CREATE VIEW bar_1h AS
SELECT run, instrument, bucket, (array_agg(open ORDER BY first_seq))[1] AS open, max(high) AS high, min(low) AS low,
       (array_agg(close ORDER BY last_seq DESC))[1] AS close, sum(volume) AS volume, sum(trades)::bigint AS trades,
       min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM (
    SELECT * FROM bar_1h_kept
    UNION ALL
    SELECT run, instrument, ts_ns / 3600000000000 * 3600000000000, open, high, low, close, volume, trades, first_seq, last_seq FROM trade_bar
) it
GROUP BY run, instrument, bucket;

CREATE VIEW bar_1d AS
SELECT run, instrument, bucket, (array_agg(open ORDER BY first_seq))[1] AS open, max(high) AS high, min(low) AS low,
       (array_agg(close ORDER BY last_seq DESC))[1] AS close, sum(volume) AS volume, sum(trades)::bigint AS trades,
       min(first_seq) AS first_seq, max(last_seq) AS last_seq
FROM (
    SELECT * FROM bar_1d_kept
    UNION ALL
    SELECT run, instrument, ts_ns / 86400000000000 * 86400000000000, open, high, low, close, volume, trades, first_seq, last_seq FROM trade_bar
) it
GROUP BY run, instrument, bucket;

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
