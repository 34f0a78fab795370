-- A scheduled query, every hour for example. It reads only the partitions of the last two days, and one run
-- more than necessary changes nothing.
MERGE INTO dimmy_prod.newest_items AS stored
USING (
  SELECT
    JSON_VALUE(data, '$.item_id') AS item_id,
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
  FROM dimmy_prod.item_versions
  WHERE publish_time >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 2 DAY)
    AND JSON_VALUE(data, '$.item_id') IS NOT NULL
  QUALIFY ROW_NUMBER() OVER (newest_first) = 1
  WINDOW newest_first AS (
    PARTITION BY JSON_VALUE(data, '$.item_id')
    ORDER BY
      TIMESTAMP_TRUNC(SAFE_CAST(JSON_VALUE(data, '$.updated_at') AS TIMESTAMP), MILLISECOND) DESC,
      publish_time DESC,
      SAFE_CAST(message_id AS INT64) DESC
  )
) AS newest
ON stored.item_id = newest.item_id
WHEN MATCHED AND (
  TIMESTAMP_TRUNC(newest.updated_at, MILLISECOND) > TIMESTAMP_TRUNC(stored.updated_at, MILLISECOND)
  OR (newest.updated_at IS NOT NULL AND stored.updated_at IS NULL)
  OR (
    TIMESTAMP_TRUNC(newest.updated_at, MILLISECOND)
      IS NOT DISTINCT FROM TIMESTAMP_TRUNC(stored.updated_at, MILLISECOND)
    AND newest.published_at > stored.published_at
  )
) THEN UPDATE SET
  updated_at = newest.updated_at,
  flow_id = newest.flow_id,
  owner_id = newest.owner_id,
  barcode = newest.barcode,
  width_mm = newest.width_mm,
  height_mm = newest.height_mm,
  depth_mm = newest.depth_mm,
  volume_l = newest.volume_l,
  weight_g = newest.weight_g,
  photo_count = newest.photo_count,
  started_at = newest.started_at,
  ended_at = newest.ended_at,
  created_at = newest.created_at,
  event_id = IFNULL(newest.event_id, stored.event_id),
  object = newest.object,
  item = newest.item,
  published_at = newest.published_at
WHEN NOT MATCHED THEN INSERT ROW
