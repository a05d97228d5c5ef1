import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import TDXStatusCodes
import Testing

struct HostProbeTests {
    private func tdxScript() -> ScriptedSystem.Script {
        var script = ScriptedSystem.Script()
        script.capabilities = [.vmTypes: 0b100001, .guestMemfd: 1]
        script.vmCapabilities = [.memoryAttributes: 8, .guestMemfdFlags: 1, .maximumVCPUs: 64]
        return script
    }

    @Test(.enabled(if: Machine.hasKVM, "there is no usable /dev/kvm"))
    func `the real kernel is described as its own ioctls describe it`() throws {
        let system = try #require(Machine.system)
        let facts = HostProbe.probe(system)
        #expect(facts.apiVersion.value == 12)
        #expect(facts.vmTypes.value == UInt32(Machine.capability(.vmTypes)))
        #expect(facts.offers(.default))
        #expect(facts.types.map(\.type) == Machine.types + (Machine.hasTDX ? [.tdx] : []))
        #expect(facts.guestMemory.value == Machine.hasGuestMemfd)
        #expect(facts.preFault.value == Machine.hasPreFault)
        #expect(facts.memorySlots.value ?? 0 >= 32)
        #expect(facts.maximumVCPUs.value ?? 0 >= 1)
        let ordinary = try #require(facts.facts(for: .default))
        #expect(ordinary.privateMemory.value == false)
        if Machine.hasAttributes { #expect(facts.facts(for: .softwareProtected)?.privateMemory.value == true) }
        if !Machine.hasTDX {
            #expect(facts.terminate.value == .notApplicable)
            #expect(facts.tdxCapabilities.value == nil)
        }
    }

    @Test func `a set capability bit is believed, and no TD is thrown away for it`() {
        var script = tdxScript()
        script.tdxCapabilities.supportedCommands = 0b11
        let system = ScriptedSystem(script)
        #expect(HostProbe.probe(system).terminate.value == .supported)
        #expect(!system.calls.contains("terminate"))
        #expect(system.openCount == 0)
    }

    @Test func `without the bit a VM that has no TD is terminated, and nothing else is asked of it`() {
        let system = ScriptedSystem(tdxScript())
        let facts = HostProbe.probe(system)
        #expect(facts.terminate.value == .supported)
        #expect(system.calls == ["terminate"])
        #expect(system.openCount == 0)
    }

    @Test(arguments: ["EINVAL", "ENOTTY", "EOPNOTSUPP"])
    func `a refusal of the command means that it is absent`(name: String) throws {
        var script = tdxScript()
        script.termination = KVMError("KVM_TDX_TERMINATE_VM", try #require(Errno(named: name)))
        let terminate = HostProbe.probe(ScriptedSystem(script)).terminate
        #expect(terminate.value == .absent)
        #expect(terminate.evidence.contains(name))
    }

    @Test(arguments: ["EBUSY", "EIO", "ENOMEM"])
    func `another refusal says nothing, and is reported as it came`(name: String) throws {
        var script = tdxScript()
        script.termination = KVMError("KVM_TDX_TERMINATE_VM", try #require(Errno(named: name)))
        let terminate = HostProbe.probe(ScriptedSystem(script)).terminate
        #expect(terminate.value == nil)
        #expect(terminate.evidence.contains(name))
    }

    @Test func `no VM type 5 means not applicable, and no VM of it is made`() {
        var script = tdxScript()
        script.capabilities[.vmTypes] = 0b11
        let system = ScriptedSystem(script)
        let facts = HostProbe.probe(system)
        #expect(facts.terminate.value == .notApplicable)
        #expect(facts.tdxCapabilities.value == nil)
        #expect(facts.types.map(\.type) == [.default, .softwareProtected])
        #expect(facts.facts(for: .tdx) == nil)
        #expect(system.calls.isEmpty)
    }

    @Test func `a host that refuses VMs is described by its refusal`() {
        var script = tdxScript()
        script.creation = KVMError("KVM_CREATE_VM", .noMemory)
        let facts = HostProbe.probe(ScriptedSystem(script))
        #expect(facts.types.allSatisfy { $0.guestMemoryFlags.value == nil })
        #expect(facts.facts(for: .tdx)?.privateMemory.evidence == "KVM_CREATE_VM: ENOMEM (Cannot allocate memory)")
        #expect(facts.terminate.value == nil)
    }

    @Test func `this machine's platform facts carry what was read`() throws {
        let facts = PlatformFacts.read()
        let cpu = try ProcessorInformation.ofHost()
        #expect(facts.tdxHostPlatform.value == cpu.flags.contains("tdx_host_platform"))
        #expect(facts.partialWriteErratum.value == cpu.bugs.contains("tdx_pw_mce"))
        for evidence in [facts.tdxModuleParameter.evidence, facts.keyIDs.evidence, facts.cachestat.evidence] {
            #expect(!evidence.isEmpty)
        }
        // A kernel may be built without the call; then the evidence says so.
        #expect(facts.cachestat.value == true || facts.cachestat.evidence.contains("ENOSYS"))
    }

    @Test func `a missing platform is told by the errors of its files`() {
        let facts = PlatformFacts.read(root: "/nonexistent")
        #expect(facts.tdxHostPlatform.value == nil)
        #expect(facts.tdxModuleParameter.evidence.contains("ENOENT"))
        #expect(facts.keyIDs.value == nil)
        #expect(facts.moduleVersion.value == nil)
    }

    @Test func `a refusal names the call, the errno, the module's status and what was asked`() {
        let error = KVMError(
            "KVM_TDX_INIT_VM", .invalidArgument, status: TDXStatus(0xC000_0100_0000_0001), detail: "attributes 0x10")
        #expect(
            "\(error)" == "KVM_TDX_INIT_VM: EINVAL (Invalid argument), TDX status \(TDXStatus(0xC000_0100_0000_0001)): "
                + "attributes 0x10")
        #expect("\(error)".contains("0xc000010000000001"))
    }
}
