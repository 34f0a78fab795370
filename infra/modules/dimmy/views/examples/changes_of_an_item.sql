-- What changed in an item, and when: its versions, with the columns that differ from the one before.
WITH versions AS (
  SELECT
    SAFE_CAST(JSON_VALUE(data, '$.updated_at') AS TIMESTAMP) AS updated_at,
    JSON_VALUE(data, '$.flow_id') AS flow_id,
    JSON_VALUE(data, '$.barcode') AS barcode,
    JSON_VALUE(data, '$.width_mm') AS width_mm,
    JSON_VALUE(data, '$.height_mm') AS height_mm,
    JSON_VALUE(data, '$.depth_mm') AS depth_mm,
    JSON_VALUE(data, '$.weight_g') AS weight_g,
    JSON_VALUE(data, '$.photo_count') AS photo_count,
    JSON_VALUE(data, '$.item') AS item
  FROM dimmy_prod.item_versions
  WHERE JSON_VALUE(data, '$.item_id') = @item_id
  -- A version may have been published more than once.
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY JSON_VALUE(data, '$.updated_at')
    ORDER BY publish_time DESC, message_id DESC
  ) = 1
)
SELECT
  updated_at,
  COALESCE(NULLIF(ARRAY_TO_STRING([
    IF(flow_id IS DISTINCT FROM LAG(flow_id) OVER (ORDER BY updated_at), 'flow_id', NULL),
    IF(barcode IS DISTINCT FROM LAG(barcode) OVER (ORDER BY updated_at), 'barcode', NULL),
    IF(width_mm IS DISTINCT FROM LAG(width_mm) OVER (ORDER BY updated_at), 'width_mm', NULL),
    IF(height_mm IS DISTINCT FROM LAG(height_mm) OVER (ORDER BY updated_at), 'height_mm', NULL),
    IF(depth_mm IS DISTINCT FROM LAG(depth_mm) OVER (ORDER BY updated_at), 'depth_mm', NULL),
    IF(weight_g IS DISTINCT FROM LAG(weight_g) OVER (ORDER BY updated_at), 'weight_g', NULL),
    IF(photo_count IS DISTINCT FROM LAG(photo_count) OVER (ORDER BY updated_at), 'photo_count', NULL)
  ], ', '), ''), 'other fields') AS changed,
  item
FROM versions
ORDER BY updated_at
