package scenarios

import (
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/reports"
)

// Exit codes of every command that runs or judges.
const (
	ExitPass        = 0 // every gate passed
	ExitGate        = 1 // a gate failed
	ExitUsage       = 2 // the command line or the scenario is wrong
	ExitEnvironment = 3 // this machine can't do it; the message says what provides it
	ExitContender   = 4 // a contender crashed, hung or gave wrong answers
	ExitInvalid     = 5 // the measurement can't be trusted, or settles nothing
)

// States of a trial.
const (
	trialOK      = "ok"
	trialInvalid = "invalid" // the measurement can't be trusted; it says nothing about the contender
	trialFailed  = "failed"  // the contender crashed, hung or gave wrong answers
)

// Error is an error that knows the exit code of the process it ends. Its
// message says what was being done and, where there is one, what to do now.
type Error struct {
	Code int
	Hint string // what to do, a sentence without its full stop; may be empty
	Err  error
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n  " + e.Hint
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the exit code that belongs to the error.
func (e *Error) ExitCode() int { return e.Code }

func usageError(hint string, format string, args ...any) error {
	return &Error{Code: ExitUsage, Hint: hint, Err: fmt.Errorf(format, args...)}
}

func environmentError(hint string, format string, args ...any) error {
	return &Error{Code: ExitEnvironment, Hint: hint, Err: fmt.Errorf(format, args...)}
}

func contenderError(hint string, format string, args ...any) error {
	return &Error{Code: ExitContender, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// ExitCode maps what Run returned to the process's exit code. An error wins
// over the result. A wrong or lost answer, or a contender that died, wins over
// a failed gate: its numbers mean nothing. Inconclusive is not a pass.
func ExitCode(result *reports.Result, err error) int {
	if err != nil {
		var coded interface{ ExitCode() int }
		if errors.As(err, &coded) {
			return coded.ExitCode()
		}
		return ExitEnvironment
	}
	if result == nil {
		return ExitInvalid
	}
	if answersWrong(result) {
		return ExitContender
	}
	switch result.Verdict {
	case reports.VerdictPass:
		return ExitPass
	case reports.VerdictFail:
		return ExitGate
	default:
		return ExitInvalid
	}
}

// answersWrong reports whether a contender failed a trial or the oracle found
// a wrong answer anywhere.
func answersWrong(result *reports.Result) bool {
	if result.Oracle.Wrong+result.Oracle.Lost+result.Oracle.Phantom > 0 {
		return true
	}
	for i := range result.Trials {
		if result.Trials[i].Status == trialFailed {
			return true
		}
	}
	return false
}
