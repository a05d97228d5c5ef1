internal import CLinux
internal import LinuxSystem
internal import MemoryUnits
internal import TDXEmulator
public import VMMTerms

extension VMMEngine {
    /// What happened so far.
    /// - Parameter program: the VMM's name.
    public func report(program: String) -> EngineReport {
        EngineReport(
            backend: backing == .guestMemfd ? "guest_memfd" : "memfd", pid: CurrentProcess.pid, program: program,
            requests: counts.requests, refusals: counts.refusals, trustDomains: allMachines.map(\.report),
            guest: guest.report)
    }

    /// Closes what is open, and reports what was left then; `closeAll()` first.
    public func closingReport(program: String) -> EngineReport {
        closeAll()
        var report = report(program: program)
        let keys = freeKeyIDs
        report.leaks = EngineReport.Leaks(
            trustDomains: report.trustDomains.count { !$0.destroyed }, keyIds: keys.all - keys.free,
            pages: report.trustDomains.reduce(0) { $0 + $1.leakedPages })
        return report
    }

    /// Calls `body` once when the guest's program has ended, on the guest's own thread.
    public func whenGuestEnds(_ body: @escaping @Sendable () -> Void) { guest.onEnd(body) }
}

extension EngineMachine {
    var report: EngineReport.TrustDomain {
        let now = counts.now
        let inspection = emulated.inspection
        return EngineReport.TrustDomain(
            generation: generation, vcpus: now.vcpus, guestMemoryBytes: now.guestMemory,
            keyId: inspection.keyID.map { UInt16($0.rawValue) },
            mrtd: inspection.measurement.map { $0.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() },
            loadedPages: now.loadedPages, measuredPages: now.measuredPages,
            privatePages: inspection.privatePages.rawValue, exits: now.exits, toShared: now.toShared,
            toSharedBytes: now.toSharedBytes, toPrivate: now.toPrivate, toPrivateBytes: now.toPrivateBytes,
            punchedBytes: now.punched, seamcalls: inspection.seamcalls, destroyed: inspection.isDestroyed,
            leakedPages: inspection.leakedPages.rawValue, bug: inspection.bug?.text, notes: now.notes)
    }
}
