-- Scans a day, by flow. Days are in UTC.
SELECT
  DATE(created_at) AS day,
  flow_id,
  COUNT(*) AS scans
FROM dimmy_prod.items
GROUP BY day, flow_id
ORDER BY day, flow_id
