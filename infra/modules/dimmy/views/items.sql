SELECT
  JSON_VALUE(item, '$._id') AS item_id,
  JSON_VALUE(item, '$.flow_id') AS flow,
  JSON_VALUE(item, '$.barcode_scanning[0].code') AS barcode,
  SAFE_CAST(JSON_VALUE(item, '$.dimensioning[0].dimensions.width') AS FLOAT64) AS width,
  SAFE_CAST(JSON_VALUE(item, '$.dimensioning[0].dimensions.height') AS FLOAT64) AS height,
  SAFE_CAST(JSON_VALUE(item, '$.dimensioning[0].dimensions.depth') AS FLOAT64) AS depth,
  JSON_VALUE(item, '$.dimensioning[0].dimensions.unit') AS length_unit,
  SAFE_CAST(JSON_VALUE(item, '$.weighing[0].weight') AS FLOAT64) AS weight,
  JSON_VALUE(item, '$.weighing[0].unit') AS weight_unit,
  (
    SELECT COUNT(photo)
    FROM
      UNNEST(JSON_QUERY_ARRAY(item, '$.photographing')) AS step,
      UNNEST(JSON_QUERY_ARRAY(step, '$.photos')) AS photo
  ) AS photo_count,
  SAFE_CAST(JSON_VALUE(item, '$.started_at') AS DATETIME) AS started_at,
  SAFE_CAST(JSON_VALUE(item, '$.ended_at') AS DATETIME) AS ended_at,
  SAFE_CAST(JSON_VALUE(item, '$.created_at') AS DATETIME) AS created_at,
  SAFE_CAST(JSON_VALUE(item, '$.updated_at') AS DATETIME) AS updated_at,
  item
FROM `${lines}`
