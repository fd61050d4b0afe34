"""What writes generated documents: the chart's README, the Kustomize base, the pages of the documentation's site."""
