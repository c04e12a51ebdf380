package proof

import (
	"path/filepath"
	"testing"
)

// What is committed as proven holds no failure: it would never be missed again.
func TestCommittedRecordHoldsNoFailure(t *testing.T) {
	record, err := ReadRecord(filepath.Join("..", "proven.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(record.Kernels) == 0 {
		t.Fatal("the committed record is empty")
	}
	for _, failure := range Failures(record.Kernels) {
		t.Error(failure)
	}
}
