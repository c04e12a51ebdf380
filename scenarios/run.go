package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// Bounds of a run.
const (
	repeatsMax     = 4   // of an invalid trial
	repeatShareMax = 0.3 // of the planned trials, so that a restless machine doesn't double the run
	failuresMax    = 2   // after which a contender's other trials are left out
	trialOverhead  = 200 * time.Millisecond
	interruptedFmt = "interrupted after %d of %d trials"
)

// ExitInterrupted is the exit code of a run that SIGINT or SIGTERM ended, by
// the shells' convention.
const ExitInterrupted = 130

// runner is one run under way.
type runner struct {
	options Options
	bench   bench
	folder  *folder
	journal *journal
	record  runRecord
	slots   []slot
	records map[int]slotRecord
	checks  []checkRecord

	mu    sync.Mutex // Progress is called from one goroutine at a time
	order int
	done  int
	spent time.Duration // on the trials of this process
	ran   int
	again int // repeats so far

	notMeasured []string
	capacities  []capacityRecord
	loads       []reports.Metric // the rates that were measured before the trials
}

// Run runs a scenario: every planned trial, the checks, the verdict. The result
// is complete and also in the run's folder as result.json; its path comes with
// EventPlan. An error has an ExitCode method; see Error. When ctx ends, the
// contender is stopped, everything temporary is removed, the finished trials
// are kept, and the error says how to go on.
//
// Only one Run may be active in a process: it uses the process's cgroup names
// and the probes.
func Run(ctx context.Context, options Options) (*reports.Result, error) {
	return run(ctx, options, limitsDefault, loadgen.Run)
}

func run(ctx context.Context, options Options, limits limits, drive func(context.Context, loadgen.Config) (*loadgen.Result, error)) (result *reports.Result, err error) {
	r := &runner{options: options, records: map[int]slotRecord{}, notMeasured: options.NotMeasured}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.folder.close()) }()
	if r.journal, err = openJournal(r.folder.path); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.journal.file.Close()) }()
	newTempRoot := machine.NewTempRoot
	if r.options.Scenario.Storage == StorageMemory {
		newTempRoot = machine.NewTempRootInMemory
	}
	temp, err := newTempRoot()
	if err != nil {
		return nil, environmentError("set TMPDIR to a folder on a disk", "%w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if options.Reference != "" {
		discard, copyErr := r.bench.copyBuilds()
		if copyErr != nil {
			return nil, copyErr
		}
		defer func() { err = errors.Join(err, discard()) }()
	}
	r.bench.temp, r.bench.limits, r.bench.drive = temp, limits, drive
	r.bench.progress = r.emit
	return r.work(ctx)
}

// work does what is left to do and always writes what there is.
func (r *runner) work(ctx context.Context) (*reports.Result, error) {
	r.emit(Event{Kind: EventPlan, Done: r.done, Total: len(r.slots), ETA: r.eta(), Folder: r.folder.path})
	err := r.runTrials(ctx)
	if err == nil {
		err = r.runChecks(ctx)
	}
	unfinished := ""
	if err != nil {
		unfinished = fmt.Sprintf(interruptedFmt, r.done, len(r.slots)) + ": " + err.Error()
	}
	result, sumErr := r.result(unfinished)
	if sumErr == nil {
		sumErr = saveResult(filepath.Join(r.folder.path, fileResult), result)
	}
	if err != nil {
		err = errors.Join(r.explain(ctx, err), sumErr)
		r.publish(Progress{
			At: time.Now(), Kind: EventDone, Done: r.done, Total: len(r.slots), Message: oneLine(err.Error()), ExitCode: ExitCode(nil, err),
		})
		return nil, err
	}
	if sumErr != nil {
		return nil, sumErr
	}
	r.publish(Progress{
		At: time.Now(), Kind: EventDone, Done: r.done, Total: len(r.slots), Gates: gatesOf(result), Verdict: string(result.Verdict),
		ExitCode: ExitCode(result, nil), Message: oneLine(strings.Join(result.Reasons, "; ")),
	})
	r.emit(Event{Kind: EventDone, Done: r.done, Total: len(r.slots), Folder: r.folder.path, Message: string(result.Verdict)})
	return result, nil
}

func saveResult(path string, result *reports.Result) error {
	if err := reports.Save(path, result); err != nil {
		return environmentError("free space in the folder of the runs and go on with --resume", "%w", err)
	}
	return nil
}

// explain says how to go on after what ended the run early.
func (r *runner) explain(ctx context.Context, err error) error {
	hint := "go on with: nexus run --resume " + r.folder.path
	if ctx.Err() != nil {
		return &Error{Code: ExitInterrupted, Hint: hint, Err: fmt.Errorf(interruptedFmt, r.done, len(r.slots))}
	}
	var known *Error
	if errors.As(err, &known) {
		if known.Hint != "" {
			hint = known.Hint + "; " + hint
		}
		return &Error{Code: known.Code, Hint: hint, Err: known.Err}
	}
	return &Error{Code: ExitEnvironment, Hint: hint, Err: err}
}

// publish appends to the progress file what is no event.
func (r *runner) publish(p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journal.append(p)
}

// publishGates tells the gates as they stand when s was the last of its round.
func (r *runner) publishGates(s slot) {
	if next := s.index + 1; next < len(r.slots) && r.slots[next].round == s.round {
		return
	}
	r.publish(Progress{At: time.Now(), Kind: EventGates, Done: r.done, Total: len(r.slots), Round: s.round, Gates: r.gatesSoFar()})
}

func (r *runner) emit(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case EventPlan:
		r.journal.plan(r, e)
	case EventDone: // work has written it, with the verdict
	default:
		r.journal.event(e)
	}
	if r.options.Progress == nil {
		return
	}
	r.options.Progress(e)
}

// eta estimates the time for the trials that are left, from the plan and from
// what the finished ones took beyond it.
func (r *runner) eta() time.Duration {
	var left time.Duration
	for _, s := range r.slots {
		if _, finished := r.records[s.index]; !finished {
			left += s.warmup + s.point.Duration
		}
	}
	extra := trialOverhead
	if r.ran > 0 {
		extra = r.spent / time.Duration(r.ran)
	}
	return left + extra*time.Duration(len(r.slots)-r.done)
}

// runTrials runs every slot that has no record yet.
func (r *runner) runTrials(ctx context.Context) error {
	if err := r.settleLoads(ctx); err != nil {
		return err
	}
	failures := map[string]int{}
	for _, record := range r.records {
		if last := record.Attempts[len(record.Attempts)-1]; last.Status == trialFailed {
			failures[record.Contender]++
		}
	}
	for _, s := range r.slots {
		if _, finished := r.records[s.index]; finished {
			continue
		}
		if failures[s.contender] >= failuresMax {
			continue
		}
		if twin, has := r.twin(s); has {
			if err := r.runPair(ctx, s, twin); err != nil {
				return err
			}
			continue
		}
		record, err := r.runSlot(ctx, s)
		if err != nil {
			return err
		}
		if record.Attempts[len(record.Attempts)-1].Status == trialFailed {
			failures[s.contender]++
			if failures[s.contender] == failuresMax {
				r.emit(Event{Kind: EventNote, Contender: s.contender, Message: fmt.Sprintf("%s failed %d trials: its others are left out", s.contender, failuresMax)})
			}
		}
	}
	return nil
}

// runSlot runs one trial, again while it is invalid, and keeps it.
func (r *runner) runSlot(ctx context.Context, s slot) (slotRecord, error) {
	record := slotRecord{Contender: s.contender, Point: pointID(s), Round: s.round}
	for attempt := 0; attempt <= repeatsMax; attempt++ {
		if err := ctx.Err(); err != nil {
			return record, err
		}
		r.emit(Event{
			Kind: EventTrialStarted, Done: r.done, Total: len(r.slots), Contender: s.contender, Point: s.point.ID,
			Round: s.round, Attempt: attempt, Costing: s.costing, ETA: r.eta(),
		})
		began := time.Now()
		trial, err := r.bench.attempt(ctx, s, r.order)
		if err != nil {
			return record, err
		}
		r.order++
		r.ran++
		r.spent += max(0, time.Since(began)-s.warmup-s.point.Duration)
		record.Attempts = append(record.Attempts, trial)
		if trial.Status == trialInvalid && attempt < repeatsMax && r.mayRepeat() {
			r.again++
			r.emit(Event{Kind: EventNote, Contender: s.contender, Point: s.point.ID, Message: fmt.Sprintf("%s is invalid and repeated: %s", s, trial.Reason)})
			continue
		}
		break
	}
	if err := r.folder.writeJSON(trialFile(s), record); err != nil {
		return record, err
	}
	r.records[s.index] = record
	r.done++
	last := record.Attempts[len(record.Attempts)-1]
	r.emit(Event{
		Kind: EventTrialFinished, Done: r.done, Total: len(r.slots), Contender: s.contender, Point: s.point.ID,
		Round: s.round, Costing: s.costing, Trial: &last, ETA: r.eta(),
	})
	r.publishGates(s)
	return record, nil
}

// mayRepeat reports whether the run can afford another repeat.
func (r *runner) mayRepeat() bool {
	return float64(r.again) < max(repeatsMax, repeatShareMax*float64(len(r.slots)))
}

// runChecks runs the lab's checks that the scenario asks for, in the lab's
// order. A check that fails is recorded: what it should have measured is then
// not measured, and gates on it fail.
func (r *runner) runChecks(ctx context.Context) error {
	for i := range r.options.Lab.Checks {
		check := &r.options.Lab.Checks[i]
		sizes, asked := r.options.Scenario.Checks[check.Name]
		if !asked {
			continue
		}
		var record checkRecord
		if r.folder.readJSON(checkFile(check.Name), &record) && record.Name == check.Name && record.Error == "" {
			r.checks = append(r.checks, record)
			continue
		}
		record, err := r.runCheck(ctx, check, sizes)
		if err != nil {
			return err
		}
		r.checks = append(r.checks, record)
		if err := r.folder.writeJSON(checkFile(check.Name), record); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) runCheck(ctx context.Context, check *Check, sizes Numbers) (record checkRecord, err error) {
	so, err := r.result("the checks are under way")
	if err != nil {
		return record, err
	}
	dir := filepath.Join(r.bench.temp, "check-"+check.Name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return record, environmentError("free space or set TMPDIR to a disk with room", "make the folder of check %s: %w", check.Name, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r.emit(Event{Kind: EventCheckStarted, Check: check.Name, Message: check.Doc})
	found, checkErr := check.Run(ctx, CheckEnv{
		Mode: r.options.Scenario.Mode, Seed: trialSeed(r.options.Scenario.Seed, "check "+check.Name, 0),
		Dir: dir, Params: sizes, Result: so, Self: r.bench.self,
		Progress: func(done, total int) {
			r.emit(Event{Kind: EventCheckProgress, Check: check.Name, CheckDone: done, CheckTotal: total})
		},
	})
	if ctx.Err() != nil {
		return record, ctx.Err()
	}
	record = checkRecord{Name: check.Name, Metrics: found.Metrics, Oracle: found.Oracle, Claims: found.Claims}
	if checkErr != nil {
		record.Error = checkErr.Error()
		r.emit(Event{Kind: EventNote, Check: check.Name, Message: fmt.Sprintf("check %s failed: %s", check.Name, checkErr)})
	}
	r.emit(Event{Kind: EventCheckFinished, Check: check.Name})
	return record, nil
}
