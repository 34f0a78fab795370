-- One row per event, in the state of its latest attempt. The table has the log entries of
-- resolve's attempts.
SELECT
  JSON_VALUE(data, '$.jsonPayload.event_id') AS event_id,
  MAX(JSON_VALUE(data, '$.jsonPayload.kind')) OVER (event) AS kind,
  JSON_VALUE(data, '$.jsonPayload.outcome') AS outcome,
  MAX(SAFE_CAST(JSON_VALUE(data, '$.jsonPayload.attempt') AS INT64)) OVER (event) AS attempts,
  MAX(SAFE_CAST(JSON_VALUE(data, '$.jsonPayload.items') AS INT64)) OVER (event) AS items,
  SAFE_CAST(JSON_VALUE(data, '$.jsonPayload.failed') AS INT64) AS failed,
  JSON_VALUE(data, '$.jsonPayload.reason_class') AS reason_class,
  JSON_VALUE(data, '$.jsonPayload.reason') AS reason,
  MAX(SAFE_CAST(JSON_VALUE(data, '$.jsonPayload.received_at') AS TIMESTAMP)) OVER (event) AS received_at,
  SAFE_CAST(JSON_VALUE(data, '$.timestamp') AS TIMESTAMP) AS attempted_at,
  SAFE_CAST(JSON_VALUE(data, '$.jsonPayload.milliseconds') AS FLOAT64) AS milliseconds
FROM `${table}`
WHERE JSON_VALUE(data, '$.jsonPayload.event_id') IS NOT NULL
QUALIFY ROW_NUMBER() OVER (
  event
  ORDER BY SAFE_CAST(JSON_VALUE(data, '$.timestamp') AS TIMESTAMP) DESC, publish_time DESC
) = 1
WINDOW event AS (PARTITION BY JSON_VALUE(data, '$.jsonPayload.event_id'))
