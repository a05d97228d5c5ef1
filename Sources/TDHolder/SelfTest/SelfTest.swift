internal import ConfidentialMemory
public import ControlInterface
internal import KVM
internal import LinuxSystem
internal import MemoryUnits

/// Runs a small guest on a real vCPU out of guest_memfd memory and checks what the host does around it: contents,
/// conversions, zeroing, residency, and that a guest which never ends is stopped.
public struct SelfTest {
    /// Longest that one KVM_RUN of the working guest may last, in milliseconds. A loaded machine whose guest is
    /// emulated twice needs a few seconds.
    static let deadline = 60_000
    /// How long the spinning guest is left alone.
    static let spinMilliseconds = 100

    private let report: (SelfTestStep) -> Void
    private var begin = MonotonicInstant.now
    private var passed = true
    private var reached: Set<String> = []

    /// - Parameters:
    ///   - choice: the backend that is configured; on `memfd` no vCPU can run.
    ///   - device: path of the KVM device.
    ///   - report: hears each step as it ends.
    /// - Returns: whether nothing failed.
    public static func run(
        _ choice: BackendChoice, device: String, report: @escaping (SelfTestStep) -> Void
    ) -> Bool {
        var test = Self(report: report)
        test.run(choice, device)
        return test.passed
    }

    private init(report: @escaping (SelfTestStep) -> Void) { self.report = report }

    private static let setUp = ["vm", "residency"]
    private static let ending = ["spinning_guest", "release"]

    private mutating func run(_ choice: BackendChoice, _ device: String) {
        let found: (system: any KVMSystem, type: VMType, vendor: String)
        switch Self.findSystem(choice, device) {
        case .success(let value): found = value
        case .failure(let reason): return skipAll(reason.reason)
        }
        let rig: SelfTestRig
        do {
            rig = try SelfTestRig(found.system, type: found.type, vendor: found.vendor)
            record(
                "vm", true,
                "VM of type \(found.type.rawValue), \(SelfTestRig.memoryRange.size) of guest_memfd, "
                    + (rig.sides == .apart ? "private and shared apart" : "private and shared in place")
                    + ", conversions by \(rig.transport)")
        } catch {
            record("vm", false, error.reason)
            return skipRest("there is no VM")
        }
        checkResidency(rig)
        do {
            try runScript(rig)
        } catch {
            let step = SelfTestScript.steps.first { !reached.contains($0) } ?? "halt"
            record(step, false, error.reason)
        }
        for step in SelfTestScript.steps where !reached.contains(step) { skip(step, "the guest did not get so far") }
        spin(rig)
        release(rig)
    }

    // MARK: Steps

    /// Nothing of the data is present before anyone has touched it. A kernel without cachestat(2) can run all that
    /// follows, and only cannot count.
    private mutating func checkResidency(_ rig: SelfTestRig) {
        do {
            guard let resident = try rig.residency() else {
                return skip("residency", "the kernel has no cachestat(2); what follows is checked by contents alone")
            }
            record(
                "residency", resident.total == .zero,
                "cachestat counts \(resident.total.rawValue) bytes before anyone has touched the guest's data")
        } catch {
            record("residency", false, error.reason)
        }
    }

    private mutating func runScript(_ rig: SelfTestRig) throws(SelfTestFailure) {
        try rig.load(entry: 0)
        var script = SelfTestScript(rig)
        while true {
            switch rig.runner.run(deadline: Self.deadline) {
            case .exit(.io(isWrite: true, size: 4, port: let port, data: let data)):
                let value = data.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                let conclusion = try script.conclude(port: port, value: value)
                record(conclusion.name, conclusion.holds, conclusion.evidence)
            case .exit(.io(isWrite: false, size: 4, port: SelfTestGuest.Port.convert, data: _)):
                let registers = try attempt { () throws(KVMError) in try rig.vcpu.registers() }
                let result = script.convert(address: registers.rbx, pages: registers.rcx, attributes: registers.rdx)
                rig.vcpu.completeInput((0..<4).map { UInt8(truncatingIfNeeded: result >> (8 * UInt64($0))) })
            case .exit(.hypercall(number: SelfTestGuest.mapRangeNumber, arguments: let arguments)):
                rig.vcpu.completeHypercall(
                    script.convert(address: arguments[0], pages: arguments[1], attributes: arguments[2]))
            case .exit(.halt):
                return record("halt", true, "the guest ended by HLT")
            case .stopped:
                throw SelfTestFailure("the guest was still running after \(Self.deadline) ms and was stopped")
            case .stuck: throw SelfTestFailure("KVM_RUN did not return after a signal")
            case .failed(let error): throw SelfTestFailure("\(error)")
            case .exit(let other): throw SelfTestFailure("KVM_RUN ended unexpectedly: \(other)")
            }
        }
    }

    /// A guest that never ends must not take its host along.
    private mutating func spin(_ rig: SelfTestRig) {
        do {
            try rig.load(entry: SelfTestGuest.spinOffset)
            switch rig.runner.run(deadline: Self.spinMilliseconds) {
            case .stopped(let milliseconds):
                let rounded = (milliseconds * 100).rounded() / 100
                record(
                    "spinning_guest", true,
                    "a guest that never ends was left alone for \(Self.spinMilliseconds) ms and then left KVM_RUN "
                        + "\(rounded) ms after immediate_exit and a signal")
            case let other:
                record("spinning_guest", false, "a guest that never ends came back with \(other)")
            }
        } catch {
            record("spinning_guest", false, error.reason)
        }
    }

    private mutating func release(_ rig: SelfTestRig) {
        guard let report = rig.tearDown() else { return record("release", false, "no teardown could be planned") }
        let remaining =
            report.remaining.map { "cachestat then counts \($0.rawValue) bytes" }
            ?? "residency is not known: no cachestat(2)"
        record(
            "release", report.failures.isEmpty && (report.remaining ?? .zero) == .zero,
            "\(report.released.rawValue) bytes released, " + remaining + (report.failures.words.map { "; \($0)" } ?? "")
        )
    }

    // MARK: Host

    private static func findSystem(
        _ choice: BackendChoice, _ device: String
    ) -> Result<(system: any KVMSystem, type: VMType, vendor: String), SelfTestFailure> {
        if choice == .fixed(.memfd) { return .failure(SelfTestFailure("no vCPU can run on backend memfd")) }
        let (readings, system) = HostReadings.read(device: device)
        guard let system, readings.kvm.value != nil else {
            return .failure(SelfTestFailure("no vCPU can run: \(readings.kvm.refusal ?? "/dev/kvm is not usable")"))
        }
        let vendor = readings.processor.value?.vendor ?? ""
        let offers = readings.offers
        if BackendChooser.obstacle(to: .softwareProtected, offers) == nil, choice != .fixed(.guestMemfd) {
            return .success((system, .softwareProtected, vendor))
        }
        if let obstacle = BackendChooser.obstacle(to: .guestMemfd, offers) {
            return .failure(SelfTestFailure("no guest can run out of guest_memfd: \(obstacle)"))
        }
        return .success((system, .default, vendor))
    }

    private func attempt<Value>(_ body: () throws(KVMError) -> Value) throws(SelfTestFailure) -> Value {
        do { return try body() } catch { throw SelfTestFailure("\(error)") }
    }

    // MARK: Reporting

    private mutating func record(_ name: String, _ holds: Bool, _ evidence: String) {
        passed = passed && holds
        end(name, holds ? .pass : .fail, evidence)
    }

    private mutating func skip(_ name: String, _ reason: String) { end(name, .skip, reason) }

    private mutating func end(_ name: String, _ result: CheckResult, _ evidence: String) {
        reached.insert(name)
        let now = MonotonicInstant.now
        report(
            SelfTestStep(name: name, result: result, evidence: evidence, milliseconds: now.milliseconds(since: begin)))
        begin = now
    }

    private mutating func skipAll(_ reason: String) {
        for name in Self.setUp + SelfTestScript.steps + Self.ending { skip(name, reason) }
    }

    private mutating func skipRest(_ reason: String) {
        for name in Self.setUp.dropFirst() + SelfTestScript.steps + Self.ending { skip(name, reason) }
    }
}
