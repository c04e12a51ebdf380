package seglog

import "time"

// linger delays commits of small batches by Options.Linger.
type linger struct {
	delay time.Duration
	bytes int
	timer *time.Timer
}

func newLinger(o Options) *linger {
	g := &linger{delay: o.Linger, bytes: o.BatchBytes / 2, timer: time.NewTimer(time.Hour)}
	g.timer.Stop()
	return g
}

func (g *linger) wait(l *Log) {
	if g.delay == 0 {
		return
	}
	waiting := false
	for {
		l.mu.Lock()
		records, bytes := l.e.Staged()
		closing := l.closing
		l.mu.Unlock()
		if closing || records == 0 || bytes >= g.bytes {
			return
		}
		if !waiting {
			g.timer.Reset(g.delay)
			waiting = true
		}
		select {
		case <-g.timer.C:
			return
		case <-l.wake:
		}
	}
}
