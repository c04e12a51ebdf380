package scenarios

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed day*/*.yaml
var builtIn embed.FS

// BuiltIn returns the scenario file that Lab.Scenario names as it was when this
// binary was built.
func BuiltIn(path string) ([]byte, error) {
	text, err := builtIn.ReadFile(strings.TrimPrefix(path, "scenarios/"))
	if err != nil {
		return nil, fmt.Errorf("scenario %s is not built in: %w", path, err)
	}
	return text, nil
}
