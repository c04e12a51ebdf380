package convoy

// QuantileNs returns the q-quantile of the write latency of one layout and
// number of threads, a value per round without the lock probe.
func (r WritersResult) QuantileNs(layout Layout, threads int, q float64) []float64 {
	var out []float64
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Locks == nil && c.Layout == layout && c.Threads == threads {
			out = append(out, c.Latency.Quantile(q))
		}
	}
	return out
}

// Growth returns, round by round, by what factor the q-quantile of the latency
// grows from so many threads to so many.
func (r WritersResult) Growth(layout Layout, from, to int, q float64) []float64 {
	return ratios(r.QuantileNs(layout, to, q), r.QuantileNs(layout, from, q))
}

// Locks sums what the lock probe saw for one layout over all cells with at
// least threadsMin threads.
func (r WritersResult) Locks(layout Layout, threadsMin int) Locks {
	var sum Locks
	for i := range r.Cells {
		if c := &r.Cells[i]; c.Locks != nil && c.Layout == layout && c.Threads >= threadsMin {
			sum.add(c.Locks)
		}
	}
	return sum
}

func (l *Locks) add(o *Locks) {
	l.Writes += o.Writes
	l.InodeWaits += o.InodeWaits
	l.PositionWaits += o.PositionWaits
	l.RwsemWriteWaits += o.RwsemWriteWaits
	l.MutexWaits += o.MutexWaits
	l.Overtaken += o.Overtaken
	l.Sampled += o.Sampled
	l.SampledOvertaken += o.SampledOvertaken
	l.SampledOvertakings += o.SampledOvertakings
	l.Lost += o.Lost
	l.InodeWaitNs.Merge(&o.InodeWaitNs)
	l.OvertakingsEach.Merge(&o.OvertakingsEach)
}

// InodeWaitsPerWrite returns the share of writes that waited, asleep, for the
// inode lock of the file they wrote; 0 if nothing was written.
func (l Locks) InodeWaitsPerWrite() float64 {
	if l.Writes == 0 {
		return 0
	}
	return float64(l.InodeWaits) / float64(l.Writes)
}

// MeanNs is like QuantileNs for the mean. In a closed loop the mean over all
// writers is their number over the throughput (Little's law), whatever they
// wait for, so it grows linearly in every layout once the CPUs are full.
func (r WritersResult) MeanNs(layout Layout, threads int) []float64 {
	var out []float64
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Locks == nil && c.Layout == layout && c.Threads == threads {
			out = append(out, c.Latency.Mean())
		}
	}
	return out
}
