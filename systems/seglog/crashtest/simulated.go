package crashtest

import (
	"fmt"

	"github.com/nexuscore-labs/nexus/systems/seglog/faultdisk"
)

const (
	pointSteps = 60 // of the workload before a crash
	afterSteps = 12 // after a recovery, to see that the log goes on
)

// powerCut is one point: run, cut power during a random operation, recover
// (perhaps crashing again), check, go on, close, reopen, check.
func powerCut(o Options, i int) (Counts, error) {
	rng := rngFor(o.Seed, i, 1)
	workSeed := rng.Uint64()
	options := faultdisk.Options{Seed: rng.Uint64(), AckBeforeSync: o.AckBeforeSync, Stale: rng.IntN(3) == 0}

	// The same run without a cut says how many operations there are.
	dry := Counts{}
	w := newWorkload(o, rngFor(workSeed, i, 2), &dry)
	if err := w.open(faultdisk.New(options)); err != nil {
		return dry, fmt.Errorf("crashtest: point %d: open an empty log: %w", i, err)
	}
	w.run(pointSteps)
	options.CutAt = 1 + rng.IntN(w.disk.Ops())

	c := Counts{Points: 1}
	w = newWorkload(o, rngFor(workSeed, i, 2), &c)
	options.CutKills = rng.IntN(3) == 0
	disk := faultdisk.New(options)
	where := fmt.Sprintf("seed %d point %d, cut at operation %d", o.Seed, i, options.CutAt)
	if err := w.open(disk); err == nil {
		w.run(pointSteps)
		w.countOverlap()
	}
	if options.CutKills {
		disk = w.survive(disk, &options, where+", killed")
	}
	if disk != nil {
		disk.PowerOff()
		w.recover(disk, options, where, rng.IntN(3) == 0)
	}
	return c, nil
}

// survive recovers after the process died and goes on for a while: what it
// found is relied on from then, also by the power cut that follows.
func (w *workload) survive(disk *faultdisk.Disk, options *faultdisk.Options, where string) *faultdisk.Disk {
	options.CutAt, options.CutKills = 0, false
	options.Seed++
	disk = disk.Reboot(*options)
	if err := w.open(disk); err != nil {
		w.o.refused(w.c, where, err)
		return nil
	}
	w.c.Killed++
	w.o.check(engineReader{w.e}, w.c, where)
	w.run(w.rng.IntN(afterSteps))
	return disk
}

// recover reboots, recovers and checks. With again, power is cut during the
// recovery as well.
func (w *workload) recover(disk *faultdisk.Disk, options faultdisk.Options, where string, again bool) {
	options.CutAt, options.Fault, options.FaultAt = 0, faultdisk.None, 0
	options.Seed++
	if again {
		next := options
		next.CutAt = 1 + w.rng.IntN(20)
		disk = disk.Reboot(next)
		if err := w.open(disk); err != nil && !disk.Cut() {
			w.o.refused(w.c, where, err)
			return
		}
		w.c.Recrash++
		disk.PowerOff()
		options.Seed++
	}
	disk = disk.Reboot(options)
	err := w.open(disk)
	if err != nil {
		w.o.refused(w.c, where, err)
		return
	}
	if w.e.Recovery().TornAt != "" {
		w.c.Torn++
	}
	w.o.check(engineReader{w.e}, w.c, where)
	w.run(afterSteps)
	w.goOn(disk, options, where)
}

// goOn closes the recovered log, and looks at it once more after that.
func (w *workload) goOn(disk *faultdisk.Disk, options faultdisk.Options, where string) {
	if err := w.close(); err != nil {
		w.c.Wrong++
		w.c.note("%s: close after recovery: %v", where, err)
		return
	}
	// A clean close leaves nothing that a power cut could take.
	disk.PowerOff()
	options.Seed++
	disk = disk.Reboot(options)
	w.o.settle()
	if err := w.open(disk); err != nil {
		w.o.refused(w.c, where+", reopened", err)
		return
	}
	w.o.check(engineReader{w.e}, w.c, where+", reopened")
	w.o.checkScan(disk, w.c, where)
}

// settle forgets what was never acknowledged: the log was closed since.
func (o *oracle) settle() {
	for _, h := range o.tenants {
		clear(h.maybe)
	}
}

// fault is one point of the error sweep.
type fault struct {
	kind     faultdisk.Kind
	at       int
	sticky   bool
	seed     uint64
	inFlight int
}

// sweep lists a fault of each kind at each operation of a workload with one
// commit in flight, and of one with two.
func sweep(o Options) []fault {
	rng := rngFor(o.Seed, 0, 3)
	seed := rng.Uint64()
	var all []fault
	for inFlight := 1; inFlight <= 2; inFlight++ {
		w := newWorkload(o, rngFor(seed, 0, 4), &Counts{})
		w.inFlight = inFlight
		if err := w.open(faultdisk.New(faultdisk.Options{Seed: seed})); err != nil {
			return nil
		}
		w.run(pointSteps)
		for at := 1; at <= w.disk.Ops(); at++ {
			for _, kind := range []faultdisk.Kind{faultdisk.EIO, faultdisk.ENOSPC, faultdisk.ShortWrite} {
				all = append(all, fault{kind, at, false, seed, inFlight}, fault{kind, at, true, seed, inFlight})
			}
		}
	}
	if o.Points > 0 && o.Points < len(all) {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:o.Points]
	}
	return all
}

// errorPoint runs with one fault: acknowledged records stay readable while the
// fault lasts, the log goes on when it ended if it can, and nothing is lost
// when power is cut in the end.
func errorPoint(o Options, f fault) (Counts, error) {
	c := Counts{Points: 1}
	w := newWorkload(o, rngFor(f.seed, 0, 4), &c)
	w.inFlight = f.inFlight
	options := faultdisk.Options{Seed: f.seed, Fault: f.kind, FaultAt: f.at, FaultSticky: f.sticky, AckBeforeSync: o.AckBeforeSync}
	disk := faultdisk.New(options)
	where := fmt.Sprintf("%v at operation %d, sticky %v, %d in flight", f.kind, f.at, f.sticky, f.inFlight)
	if err := w.open(disk); err == nil {
		w.run(pointSteps)
		disk.Heal()
		w.o.check(engineReader{w.e}, &c, where+", while open")
		w.run(afterSteps)
		w.o.check(engineReader{w.e}, &c, where+", healed")
	}
	c.Faults = uint64(disk.Faults())
	disk.PowerOff()
	w.recover(disk, options, where, false)
	return c, nil
}
