import ControlInterface
import Testing

@testable import TDXDaemon

@Suite struct PageResetTests {
    @Test(arguments: Backend.allCases, [true, false, nil])
    func `no text claims a reset that tdxd did, or one that an emulated module had`(backend: Backend, erratum: Bool?) {
        let words = PageReset.words(backend, hasErratum: erratum)
        if backend.isEmulated {
            #expect(words.hasPrefix("none: the TDX module is emulated"))
        } else {
            #expect(words.contains("kernel"))
            #expect(words.hasPrefix(erratum == nil ? "not known" : erratum! ? "by the kernel" : "none"))
        }
        #expect(!words.contains("by tdxd"))
    }

    @Test func `a certificate says it, also of an end that failed`() throws {
        var ending = EndReport(record: Sample.record("web1"), holderDied: true)
        ending.failures = [EndFailure(.punchRefused, "release: EIO")]
        #expect(ending.certificate([]).pageReset == PageReset.words(.memfd, hasErratum: nil))
        ending.record.backend = .tdx
        #expect(ending.certificate([]).pageReset == PageReset.words(.tdx, hasErratum: PageReset.hostHasErratum))
    }
}
