-- The prices and quantities of all levels of depth20 rows, best first, as lists of DOUBLE: .read common/duckdb_macros.sql
-- SELECT exchange_time, bid_prices(b)[1], ask_quantities(b) FROM 'data/parquet/um/depth20/BTCUSDT/2026-11-21.parquet' b;

CREATE OR REPLACE MACRO level_prices(best, gaps, decimals, direction) AS
    CASE WHEN best IS NULL THEN []::DOUBLE[] ELSE list_transform(
        range(0, len(gaps) + 1),
        lambda i: (round(best * pow(10, decimals)) + direction * coalesce(list_sum(gaps[1:i]), 0)) / pow(10, decimals)
    ) END;

CREATE OR REPLACE MACRO level_quantities(best, deeper, decimals) AS
    CASE WHEN best IS NULL THEN []::DOUBLE[] ELSE list_prepend(
        best, list_transform(deeper, lambda lots: lots / pow(10, decimals))
    ) END;

CREATE OR REPLACE MACRO bid_prices(b) AS level_prices(b.best_bid_price, b.bid_price_gaps, b.price_decimals, -1);
CREATE OR REPLACE MACRO ask_prices(b) AS level_prices(b.best_ask_price, b.ask_price_gaps, b.price_decimals, 1);
CREATE OR REPLACE MACRO bid_quantities(b) AS level_quantities(b.best_bid_quantity, b.deeper_bid_quantities, b.quantity_decimals);
CREATE OR REPLACE MACRO ask_quantities(b) AS level_quantities(b.best_ask_quantity, b.deeper_ask_quantities, b.quantity_decimals);
