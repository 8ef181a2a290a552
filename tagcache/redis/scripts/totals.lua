return totals()
