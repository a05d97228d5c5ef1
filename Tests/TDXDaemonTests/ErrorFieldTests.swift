import ControlInterface
import Logging
import Testing

@testable import TDXDaemon

@Suite struct ErrorFieldTests {
    @Test func `what the kernel refused is told in fields of its own`() {
        let error = ControlError.kernelRefused(
            operation: "KVM_TDX_INIT_VM", errno: 5, errnoName: "EIO", tdxStatus: "0xc000010000000000", detail: "")
        let fields = error.fields(["td": "web1"]).mapValues { "\($0)" }
        #expect(
            fields == [
                "td": "web1", "reason": "\(error)", "operation": "KVM_TDX_INIT_VM", "errno": "EIO",
                "tdx_status": "0xc000010000000000",
            ])
    }

    @Test func `other errors have a reason alone`() {
        #expect(ControlError.tryAgain(reason: "x").fields().keys.sorted() == ["reason"])
    }
}
