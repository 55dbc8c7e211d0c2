"""The training methods by name; names are known without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bangbench.core.registry import Registry

if TYPE_CHECKING:
    from bangbench.training.methods.base import Method

METHODS: Registry[type[Method]] = Registry(
    "method",
    "bangbench.methods",
    {
        "regular": "bangbench.training.methods.base:Regular",
        "bang": "bangbench.training.methods.bang:Bang",
        "pgd-at": "bangbench.training.methods.pgd_at:PgdAdversarialTraining",
        "fgs-at": "bangbench.training.methods.fgs_at:FgsAdversarialTraining",
        "trades": "bangbench.training.methods.trades:Trades",
        "rs-fgsm": "bangbench.training.methods.fast:RsFgsm",
        "n-fgsm": "bangbench.training.methods.fast:NFgsm",
        "label-smoothing": "bangbench.training.methods.label_smoothing:LabelSmoothing",
        "temperature": "bangbench.training.methods.temperature:Temperature",
        "gaussian": "bangbench.training.methods.gaussian:Gaussian",
        "logit-scale": "bangbench.training.methods.logit_scale:LogitScale",
        "mart": "bangbench.training.methods.mart:Mart",
        "awp": "bangbench.training.methods.awp:Awp",
        "gradalign": "bangbench.training.methods.gradalign:GradAlign",
        "iat": "bangbench.training.methods.iat:InterpolatedAdversarialTraining",
        "stability": "bangbench.training.methods.stability:Stability",
        "jacobian": "bangbench.training.methods.jacobian:Jacobian",
        "j-sigr": "bangbench.training.methods.j_sigr:SelectiveInputGradient",
        "local-balls": "bangbench.training.methods.local_balls:LocalBalls",
        "cost-sensitive": "bangbench.training.methods.cost_sensitive:CostSensitive",
        "fgsm-tricks": "bangbench.training.methods.fgsm_tricks:FgsmTricks",
        "free-at": "bangbench.training.methods.free_at:FreeAdversarialTraining",
        "distillation": "bangbench.training.methods.distillation:Distillation",
        "hc-at": "bangbench.training.methods.hc_at:HotColdTraining",
        "ladder": "bangbench.training.methods.ladder:Ladder",
        "rse": "bangbench.training.methods.rse:RandomSelfEnsemble",
        "dial": "bangbench.training.methods.dial:DomainInvariantLearning",
        "cifs": "bangbench.training.methods.cifs:FeatureSelection",
        "tisode": "bangbench.training.methods.tisode:SteadyOde",
        "lt-node": "bangbench.training.methods.lt_node:LatentTimeOde",
    },
)
