package fsyncappend

import (
	"testing"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
	"github.com/nexuscore-labs/nexus/systems/recordstores/storetest"
)

var kind = storetest.Kind{
	Open: func(dir string) (recordserver.Store, error) { return Open(dir) },
	Scan: Scan,

	SurvivesDiskFull: true,
}

func TestMain(m *testing.M) { storetest.Main(m, kind) }

func TestStore(t *testing.T) { storetest.Run(t, kind) }
