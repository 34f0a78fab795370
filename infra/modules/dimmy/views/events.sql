SELECT
  JSON_VALUE(receipt, '$.event_id') AS event_id,
  JSON_VALUE(receipt, '$.kind') AS kind,
  JSON_VALUE(receipt, '$.outcome') AS outcome,
  SAFE_CAST(JSON_VALUE(receipt, '$.attempts') AS INT64) AS attempts,
  SAFE_CAST(JSON_VALUE(receipt, '$.redriven') AS BOOL) AS redriven,
  SAFE_CAST(JSON_VALUE(receipt, '$.received_at') AS TIMESTAMP) AS received_at,
  receipt
FROM `${lines}`
