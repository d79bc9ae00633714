-- Base tables: what the journal holds, as integers, one row per frame, one table per kind.
--
-- Every table begins with run, seq, ts_ns (nanoseconds since 1970, the event's own time, exact) and ts (the
-- same to the microsecond). Prices and quantities are counts of the instrument's scales; money is in units of
-- 1e-8; enumerations are numbers that "word" explains. Ids of 64 unsigned bits stand as the same bits:
-- unsigned_id() shows them. Rows come in the order of seq, and times with them: a block range index on the three
-- costs next to nothing and finds any of them.

CREATE TABLE drain_offset (
    journal    uuid        NOT NULL,
    sink       text        NOT NULL,
    epoch      bigint      NOT NULL DEFAULT 0,
    run        bigint      NOT NULL DEFAULT 0,
    next_seq   bigint      NOT NULL DEFAULT 1,
    chain_crc  bigint      NOT NULL DEFAULT 0,
    filter     text        NOT NULL,
    owner      text        NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (journal, sink)
);

-- Events that are not here because an operator accepted their loss: kairos drain skip.
CREATE TABLE drain_gap (
    journal    uuid        NOT NULL,
    sink       text        NOT NULL,
    first_seq  bigint      NOT NULL,
    last_seq   bigint      NOT NULL,
    owner      text        NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (journal, sink, first_seq)
);

CREATE TABLE word (
    "of"   text     NOT NULL,
    number smallint NOT NULL,
    word   text     NOT NULL,
    PRIMARY KEY ("of", number)
);

CREATE TABLE run (
    run        bigint PRIMARY KEY,
    status     text   NOT NULL,
    first_seq  bigint NOT NULL,
    last_seq   bigint,
    started_ns bigint NOT NULL,
    ended_ns   bigint,
    seed       bigint,
    build      text,
    gate       text,
    config     text
);

CREATE TABLE instrument (
    run           bigint   NOT NULL,
    instrument    integer  NOT NULL,
    venue         text     NOT NULL,
    symbol        text     NOT NULL,
    base          text     NOT NULL,
    quote         text     NOT NULL,
    price_scale   smallint NOT NULL,
    qty_scale     smallint NOT NULL,
    tick          bigint   NOT NULL,
    lot           bigint   NOT NULL,
    min_qty       bigint   NOT NULL,
    min_notional  bigint   NOT NULL,
    maker_fee_ppm integer  NOT NULL,
    taker_fee_ppm integer  NOT NULL,
    mode          text     NOT NULL,
    PRIMARY KEY (run, instrument)
);

CREATE TABLE strategy (
    run      bigint   NOT NULL,
    strategy smallint NOT NULL,
    name     text     NOT NULL,
    kind     text     NOT NULL,
    PRIMARY KEY (run, strategy)
);

CREATE TABLE venue (
    run   bigint   NOT NULL,
    venue smallint NOT NULL,
    name  text     NOT NULL,
    mode  text     NOT NULL,
    PRIMARY KEY (run, venue)
);

CREATE TABLE currency (
    run      bigint  NOT NULL,
    currency integer NOT NULL,
    name     text    NOT NULL,
    PRIMARY KEY (run, currency)
);

-- Trades between others.
CREATE TABLE trade (
    run        bigint NOT NULL,
    seq        bigint NOT NULL,
    ts_ns      bigint NOT NULL,
    ts         timestamptz NOT NULL,
    instrument integer NOT NULL,
    venue_ns   bigint,
    price      bigint NOT NULL,
    qty        bigint NOT NULL,
    side       smallint NOT NULL,
    trade_id   bigint NOT NULL
);
CREATE INDEX trade_ts ON trade USING brin (ts_ns, ts, seq);

-- Best bids and offers.
CREATE TABLE quote (
    run        bigint NOT NULL,
    seq        bigint NOT NULL,
    ts_ns      bigint NOT NULL,
    ts         timestamptz NOT NULL,
    instrument integer NOT NULL,
    venue_ns   bigint,
    bid        bigint NOT NULL,
    bid_qty    bigint NOT NULL,
    ask        bigint NOT NULL,
    ask_qty    bigint NOT NULL
);
CREATE INDEX quote_ts ON quote USING brin (ts_ns, ts, seq);

-- Levels of books: the quantity that rests there now, 0 for none.
CREATE TABLE depth (
    run        bigint NOT NULL,
    seq        bigint NOT NULL,
    ts_ns      bigint NOT NULL,
    ts         timestamptz NOT NULL,
    instrument integer NOT NULL,
    venue_ns   bigint,
    side       smallint NOT NULL,
    price      bigint NOT NULL,
    qty        bigint NOT NULL,
    update_id  bigint NOT NULL,
    flags      smallint NOT NULL
);
CREATE INDEX depth_ts ON depth USING brin (ts_ns, ts, seq);

-- Holes in market data.
CREATE TABLE gap (
    run        bigint NOT NULL,
    seq        bigint NOT NULL,
    ts_ns      bigint NOT NULL,
    ts         timestamptz NOT NULL,
    instrument integer NOT NULL,
    reason     smallint NOT NULL,
    expected   bigint NOT NULL,
    found      bigint NOT NULL
);
CREATE INDEX gap_ts ON gap USING brin (ts_ns, ts, seq);

-- Links of venues, and states of the engine.
CREATE TABLE status (
    run        bigint NOT NULL,
    seq        bigint NOT NULL,
    ts_ns      bigint NOT NULL,
    ts         timestamptz NOT NULL,
    instrument integer,
    venue      smallint NOT NULL,
    code       smallint NOT NULL,
    detail     bigint NOT NULL,
    more       bigint NOT NULL
);
CREATE INDEX status_ts ON status USING brin (ts_ns, ts, seq);

-- Ticks of the engine's timer.
CREATE TABLE timer (
    run   bigint NOT NULL,
    seq   bigint NOT NULL,
    ts_ns bigint NOT NULL,
    ts    timestamptz NOT NULL
);
CREATE INDEX timer_ts ON timer USING brin (ts_ns, ts, seq);

-- What operators and satellites asked for.
CREATE TABLE command (
    run      bigint NOT NULL,
    seq      bigint NOT NULL,
    ts_ns    bigint NOT NULL,
    ts       timestamptz NOT NULL,
    verb     smallint NOT NULL,
    argument bigint NOT NULL
);
CREATE INDEX command_ts ON command USING brin (ts_ns, ts, seq);

-- What became of orders, but for fills. Of a sent one, `stamp_ns` is when its bytes were handed to the
-- socket.
CREATE TABLE order_event (
    run        bigint NOT NULL,
    seq        bigint NOT NULL,
    ts_ns      bigint NOT NULL,
    ts         timestamptz NOT NULL,
    instrument integer NOT NULL,
    venue_ns   bigint,
    order_id   bigint NOT NULL,
    state      smallint NOT NULL,
    side       smallint NOT NULL,
    remaining  bigint NOT NULL,
    code       smallint NOT NULL,
    stamp_ns   bigint
);
CREATE INDEX order_event_ts ON order_event USING brin (ts_ns, ts, seq);
CREATE INDEX order_event_order ON order_event (order_id);

-- What orders traded. Fees are units of 1e-8 of the quote currency.
CREATE TABLE fill (
    run        bigint NOT NULL,
    seq        bigint NOT NULL,
    ts_ns      bigint NOT NULL,
    ts         timestamptz NOT NULL,
    instrument integer NOT NULL,
    venue_ns   bigint,
    order_id   bigint NOT NULL,
    side       smallint NOT NULL,
    price      bigint NOT NULL,
    qty        bigint NOT NULL,
    fee        bigint NOT NULL,
    maker      boolean NOT NULL
);
CREATE INDEX fill_ts ON fill USING brin (ts_ns, ts, seq);
CREATE INDEX fill_order ON fill (order_id);

-- Balances as venues report them, in units of 1e-8.
CREATE TABLE balance (
    run       bigint NOT NULL,
    seq       bigint NOT NULL,
    ts_ns     bigint NOT NULL,
    ts        timestamptz NOT NULL,
    venue     smallint NOT NULL,
    currency  integer NOT NULL,
    total     bigint NOT NULL,
    available bigint NOT NULL
);
CREATE INDEX balance_ts ON balance USING brin (ts_ns, ts, seq);

-- Pieces of configuration that took effect.
CREATE TABLE config (
    run    bigint NOT NULL,
    seq    bigint NOT NULL,
    ts_ns  bigint NOT NULL,
    ts     timestamptz NOT NULL,
    digest bigint NOT NULL
);
CREATE INDEX config_ts ON config USING brin (ts_ns, ts, seq);

-- What strategies wished and what risk said. `recv_ns` and `in_ns` are the stamps of the cause.
CREATE TABLE decision (
    run         bigint NOT NULL,
    seq         bigint NOT NULL,
    ts_ns       bigint NOT NULL,
    ts          timestamptz NOT NULL,
    instrument  integer NOT NULL,
    cause       bigint NOT NULL,
    order_id    bigint NOT NULL,
    strategy    smallint NOT NULL,
    action      smallint NOT NULL,
    side        smallint NOT NULL,
    order_type  smallint NOT NULL,
    tif         smallint NOT NULL,
    reduce_only boolean NOT NULL,
    post_only   boolean NOT NULL,
    price       bigint NOT NULL,
    qty         bigint NOT NULL,
    approved    boolean NOT NULL,
    code        smallint NOT NULL,
    found       bigint NOT NULL,
    limit_value bigint NOT NULL,
    notional    bigint NOT NULL,
    reason      smallint NOT NULL,
    confidence  integer NOT NULL,
    tag         integer NOT NULL,
    risk_state  smallint NOT NULL,
    recv_ns     bigint,
    in_ns       bigint,
    strategy_ns bigint,
    risk_ns     bigint
);
CREATE INDEX decision_ts ON decision USING brin (ts_ns, ts, seq);
CREATE INDEX decision_order ON decision (order_id);

-- Parts of the records that a run begins with; their contents are in `run`, `instrument` and `strategy`.
CREATE TABLE run_record (
    run   bigint NOT NULL,
    seq   bigint NOT NULL,
    ts_ns bigint NOT NULL,
    ts    timestamptz NOT NULL,
    kind  integer NOT NULL,
    part  integer NOT NULL,
    parts integer NOT NULL
);
CREATE INDEX run_record_ts ON run_record USING brin (ts_ns, ts, seq);

-- Events that only a newer kairos understands.
CREATE TABLE skipped (
    run    bigint NOT NULL,
    seq    bigint NOT NULL,
    ts_ns  bigint NOT NULL,
    ts     timestamptz NOT NULL,
    kind   integer NOT NULL,
    schema integer NOT NULL
);
CREATE INDEX skipped_ts ON skipped USING brin (ts_ns, ts, seq);
