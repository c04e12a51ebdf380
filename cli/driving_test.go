package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nexuscore-labs/nexus/loadgen"
)

// A server that answers wrongly is no lack of the machine's.
func TestDrivingError(t *testing.T) {
	wrong := fmt.Errorf("measure tcp: %w: 3 wrong answers", loadgen.ErrNotRight)
	if code := exitCode(drivingError(wrong)); code != exitContender {
		t.Errorf("wrong answers: exit code %d, want %d", code, exitContender)
	}
	if code := exitCode(drivingError(errors.New("no io_uring"))); code != exitEnvironment {
		t.Errorf("anything else: exit code %d, want %d", code, exitEnvironment)
	}
}
