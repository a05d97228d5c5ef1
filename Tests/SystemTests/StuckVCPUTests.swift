import ControlInterface
import Testing

/// A vCPU that cannot be driven out of KVM_RUN, through the real programs.
@Suite(.serialized) struct StuckVCPUTests {
    @Test(arguments: ["announced", "absent"])
    func `a vCPU that cannot be stopped is reported, and what it held comes back with the end of its process`(
        terminate: String
    ) throws {
        let host = try PrivateHost(
            settings: "emulated_key_ids = 1\nemulated_stuck_vcpu = yes\nemulated_terminate = \(terminate)")
        let domain = try host.create("web1", vcpus: 2)
        try #require(try host.makeResident(8 << 20) == 8 << 20)
        let stopped = try host.tdxctl("stop", "web1", "--json=short")
        #expect(stopped.status == 1, "\(stopped)\n\(host.log)")
        let certificate = try JSONValue(stopped)
        #expect(certificate["complete"] == .bool(false) && certificate["holder_died"] == .bool(false))
        let stuck = "vCPU 0 did not leave KVM_RUN within 5000 ms"
        #expect(certificate["failure"].text?.hasPrefix(stuck) == true, "\(certificate)")
        let kinds = certificate["failures"].elements.compactMap { $0["kind"].text }
        #expect(kinds == ["vcpu_stuck"] + (terminate == "absent" ? [] : ["terminate_busy"]), "\(certificate)")
        #expect(certificate["path"].text == "dynamic-removal")
        let phases = certificate["phases"].elements
        #expect(phases[0]["name"].text == "quiesce" && phases[0]["detail"].text == stuck)
        let detail = phases.first { $0["name"].text == "terminate" }?["detail"].text
        #expect(detail?.contains(terminate == "absent" ? "not tried" : "EBUSY") == true, "\(detail ?? "")")
        // The VM outlived the holder's answer, and says so; what can be seen behind the holder's end is all back.
        func holds(_ name: String) -> JSONValue? {
            certificate["proofs"].elements.first { $0["name"].text == name }?["holds"]
        }
        #expect(holds("emulated_vm_destroyed") == .bool(false))
        for name in ["holder_gone", "residency_zero", "no_other_holder", "vm_destroyed", "key_id_returned"] {
            #expect(holds(name) == .bool(true), "\(name): \(certificate)")
        }
        #expect(eventually { host.leavesNothing() }, "\(host.log)")
        #expect(host.log.contains("a TD has ended and not all is proven"))
        #expect(try host.create("web2").keyID == domain.keyID)
    }
}
