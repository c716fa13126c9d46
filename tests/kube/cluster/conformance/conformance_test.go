// The Gateway API's conformance suite, unchanged: `go test -c` makes a program of it, which is told everything by flags.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
