-- Above some hundred million rows, a query of the view costs too much: then keep the newest versions in a
-- table of their own. Once, create it; newest_items_update.sql keeps it up to date.
CREATE TABLE dimmy_prod.newest_items
CLUSTER BY barcode, item_id
AS
SELECT * FROM dimmy_prod.items
