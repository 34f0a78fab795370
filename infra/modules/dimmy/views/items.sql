-- The newest version of each item. Two times within a millisecond are one version: Dimmy's database
-- keeps milliseconds, its events may have more. item_id is a column of the inner query so that a filter
-- on it comes before the window function. event_id is that of the newest version that an event has
-- announced: what reconcile and republish publish has none.
SELECT
  item_id,
  SAFE_CAST(JSON_VALUE(data, '$.updated_at') AS TIMESTAMP) AS updated_at,
  JSON_VALUE(data, '$.flow_id') AS flow_id,
  JSON_VALUE(data, '$.owner_id') AS owner_id,
  JSON_VALUE(data, '$.barcode') AS barcode,
  SAFE_CAST(JSON_VALUE(data, '$.width_mm') AS FLOAT64) AS width_mm,
  SAFE_CAST(JSON_VALUE(data, '$.height_mm') AS FLOAT64) AS height_mm,
  SAFE_CAST(JSON_VALUE(data, '$.depth_mm') AS FLOAT64) AS depth_mm,
  SAFE_CAST(JSON_VALUE(data, '$.volume_l') AS FLOAT64) AS volume_l,
  SAFE_CAST(JSON_VALUE(data, '$.weight_g') AS FLOAT64) AS weight_g,
  SAFE_CAST(JSON_VALUE(data, '$.photo_count') AS INT64) AS photo_count,
  SAFE_CAST(JSON_VALUE(data, '$.started_at') AS TIMESTAMP) AS started_at,
  SAFE_CAST(JSON_VALUE(data, '$.ended_at') AS TIMESTAMP) AS ended_at,
  SAFE_CAST(JSON_VALUE(data, '$.created_at') AS TIMESTAMP) AS created_at,
  FIRST_VALUE(JSON_VALUE(data, '$.event_id') IGNORE NULLS) OVER (
    newest_first ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
  ) AS event_id,
  JSON_VALUE(data, '$.object') AS object,
  JSON_VALUE(data, '$.item') AS item,
  publish_time AS published_at
FROM (
  SELECT JSON_VALUE(data, '$.item_id') AS item_id, data, publish_time, message_id
  FROM `${table}`
)
WHERE item_id IS NOT NULL
QUALIFY ROW_NUMBER() OVER (newest_first) = 1
WINDOW newest_first AS (
  PARTITION BY item_id
  ORDER BY
    TIMESTAMP_TRUNC(SAFE_CAST(JSON_VALUE(data, '$.updated_at') AS TIMESTAMP), MILLISECOND) DESC,
    publish_time DESC,
    SAFE_CAST(message_id AS INT64) DESC
)
