-- How the dimensions and the weight of a barcode changed over time, scan by scan.
SELECT
  created_at,
  item_id,
  width_mm,
  height_mm,
  depth_mm,
  volume_l,
  weight_g
FROM dimmy_prod.items
WHERE barcode = @barcode
ORDER BY created_at
