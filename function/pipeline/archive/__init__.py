"""Archives photos: stores those of every item that the items topic announces, once each."""
