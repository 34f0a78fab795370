-- Events that needed more than one attempt, the latest first, with what the last attempt reported.
SELECT
  event_id,
  received_at,
  attempted_at,
  attempts,
  outcome,
  failed,
  reason_class,
  reason
FROM dimmy_prod.events
WHERE attempts > 1
ORDER BY attempted_at DESC
