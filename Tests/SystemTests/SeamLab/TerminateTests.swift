import ControlInterface
import Glibc
import LinuxSystem
import TestSupport
import Testing

extension TDXBackendTests {
    /// Ends with KVM_TDX_TERMINATE_VM, which no released kernel has and the lab's has if it is asked to.
    @Suite(.enabled(if: SeamLab.hasOrders, SeamLab.lacksOrders)) struct TerminateTests {
        private func host(_ settings: String = "") throws -> PrivateHost {
            try PrivateHost(backend: "tdx", settings: settings)
        }

        /// SEAMCALLs by their leaf.
        private enum Leaf {
            static let rangeBlock = 7
            static let freeKeyID = 20
            static let pageReclaim = 28
            static let pageRemove = 29
            static let track = 38
        }

        /// Of a TD of 16 MiB.
        private let pages: UInt64 = 4096

        private func create(_ host: PrivateHost, mebibytes: UInt64 = 16) throws -> TrustDomain {
            let created = try host.tdxctl(
                "create", "web1", "--memory", "\(mebibytes)M", "--prefault", "--json=short")
            #expect(created.status == 0, "\(created)")
            return try host.show("web1")
        }

        private func expect(_ certificate: TeardownCertificate, path: EndPath) throws {
            #expect(certificate.complete && certificate.path == path, "\(certificate)")
            #expect(certificate.backend == .tdx && !certificate.emulated)
            #expect(try SeamLab.keysInUse() == 0)
        }

        @Test(arguments: [SeamLab.Termination.announced, .unannounced])
        func `a TD is terminated first, and each page leaves by one call`(kind: SeamLab.Termination) throws {
            try SeamLab.with(kind) {
                let host = try host()
                let found = try host.tdxctl("ok").output.split(separator: "\n").filter { $0.contains("TERMINATE_VM") }
                #expect(found.contains { $0.contains("PASS") }, "\(found)")
                _ = try create(host)
                let calls = try SeamLab.counting { try expect(try host.stop("web1"), path: .terminateFirst) }
                for leaf in [Leaf.rangeBlock, Leaf.track, Leaf.pageRemove] { #expect(calls[leaf] == nil, "\(calls)") }
                #expect(calls[Leaf.freeKeyID] == 1)
                // Its pages, and some for control structures and tables.
                #expect(calls[Leaf.pageReclaim].map { (pages + 10...pages + 200).contains($0) } == true, "\(calls)")
                #expect(host.leavesNothing())
            }
        }

        @Test func `without the command each page leaves by four calls`() throws {
            let host = try host()
            _ = try create(host)
            let calls = try SeamLab.counting { try expect(try host.stop("web1"), path: .dynamicRemoval) }
            for leaf in [Leaf.rangeBlock, Leaf.track, Leaf.pageRemove] { #expect(calls[leaf] == pages, "\(calls)") }
            #expect(calls[Leaf.pageReclaim].map { $0 < 200 } == true, "\(calls)")
        }

        @Test func `the last will of a holder that is killed terminates its TD before any page leaves`() throws {
            try SeamLab.with(.announced) {
                let host = try host()
                let domain = try create(host)
                #expect(domain.lastWill != nil, "\(domain)")
                let calls = try SeamLab.counting {
                    kill(domain.holderPID, SIGKILL)
                    #expect(eventually { host.certificateFiles.count == 1 && host.leavesNothing() }, "\(host.log)")
                }
                let certificate = try host.stop("web1")
                #expect(certificate.holderDied)
                try expect(certificate, path: .terminateFirst)
                let will = certificate.phases.first { $0.name == .lastWill }
                #expect(will?.calls == 1, "\(certificate)")
                for leaf in [Leaf.rangeBlock, Leaf.track, Leaf.pageRemove] { #expect(calls[leaf] == nil, "\(calls)") }
                #expect(calls[Leaf.freeKeyID] == 1)
            }
        }

        @Test func `a holder that is killed with its last will leaves its pages one by one`() throws {
            try SeamLab.with(.announced) {
                let host = try host()
                let domain = try create(host)
                let record = try #require(
                    try LastWillRecord.read(
                        at: host.runtime + "/holders/\(domain.id)/last-will", patience: .zero))
                let calls = try SeamLab.counting {
                    kill(record.record.pid, SIGKILL)
                    kill(domain.holderPID, SIGKILL)
                    #expect(eventually { host.certificateFiles.count == 1 && host.leavesNothing() }, "\(host.log)")
                }
                let certificate = try host.stop("web1")
                #expect(certificate.holderDied)
                try expect(certificate, path: .dynamicRemoval)
                #expect(calls[Leaf.pageRemove] == pages, "\(calls)")
            }
        }

        @Test func `the next tdxd finds what the last will did when both were killed`() throws {
            try SeamLab.with(.unannounced) {
                let host = try host()
                let domain = try create(host)
                host.kill(.kill)
                kill(domain.holderPID, SIGKILL)
                #expect(eventually { host.holders.isEmpty })
                try host.start()
                #expect(eventually { host.certificateFiles.count == 1 && host.leavesNothing() }, "\(host.log)")
                #expect(try eventually { try SeamLab.keysInUse() == 0 })
                let certificate = try host.stop("web1")
                #expect(certificate.holderDied && certificate.path == .terminateFirst, "\(certificate)")
            }
        }

        @Test func `a deferred end has given the key id back while the memory is still there`() throws {
            try SeamLab.with(.announced) {
                let host = try host()
                _ = try create(host)
                let stopped = try host.stop(ManagerInterface.Stop.Parameters(name: "web1", policy: .deferred))
                #expect(!stopped.complete && stopped.pending != nil, "\(stopped)")
                #expect(try SeamLab.keysInUse() == 0)
                let calls = try SeamLab.counting { try expect(try host.reclaim("web1"), path: .terminateFirst) }
                #expect(calls[Leaf.pageRemove] == nil && calls[Leaf.freeKeyID] == nil, "\(calls)")
            }
        }
    }
}
