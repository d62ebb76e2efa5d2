package main

// adoptMode turns a configuration for another mode of kube-proxy into the one
// for the iptables mode that serves alike: kube-proxy reads each mode's settings
// from a section of its own, and the other modes open node ports on fewer
// addresses. Whoever comes from them need not edit the file first.
func adoptMode(c *configuration) {
	tables, closed, defaults := &c.IPTables, false, defaultConfiguration()
	switch c.Mode {
	case modeIPVS:
		tables.SyncPeriod = c.IPVS.SyncPeriod
		if c.IPVS.MinSyncPeriod.Duration != 0 { // its default, at which every change would be a sync
			tables.MinSyncPeriod = c.IPVS.MinSyncPeriod
		}
		c.IPVS.SyncPeriod, c.IPVS.MinSyncPeriod = defaults.IPVS.SyncPeriod, defaults.IPVS.MinSyncPeriod
	case modeNFTables:
		tables.SyncPeriod, tables.MinSyncPeriod = c.NFTables.SyncPeriod, c.NFTables.MinSyncPeriod
		tables.MasqueradeAll, tables.MasqueradeBit = c.NFTables.MasqueradeAll, c.NFTables.MasqueradeBit
		if len(c.NodePortAddresses) == 0 {
			c.NodePortAddresses = []string{"primary"}
		}
		c.NFTables = defaults.NFTables
	default:
		return
	}
	tables.LocalhostNodePorts = &closed
	c.Mode = modeIPTables
}
