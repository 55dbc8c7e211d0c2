"""The reason codes of an audit: what each means, what to do about it, where the check comes from."""

from __future__ import annotations

from typing import Literal, NamedTuple

Group = Literal["preflight", "vanishing", "masked against unmasked", "stronger attacks", "consistency", "hygiene"]

#: The sources that reasons name by their keys.
SOURCES = {
    "Carlini 2019": "Carlini et al., On Evaluating Adversarial Robustness, arXiv 1902.06705",
    "Athalye 2018": "Athalye, Carlini, Wagner, Obfuscated Gradients Give a False Sense of Security, arXiv 1802.00420",
    "Croce 2020": "Croce, Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse "
    "Parameter-free Attacks (AutoAttack), arXiv 2003.01690",
    "Croce 2021": "Croce et al., RobustBench: a Standardized Adversarial Robustness Benchmark, arXiv 2010.09670",
    "Pintor 2022": "Pintor et al., Indicators of Attack Failure: Debugging and Improving Optimization of Adversarial "
    "Examples, arXiv 2106.09947",
    "Kurakin 2017": "Kurakin, Goodfellow, Bengio, Adversarial Machine Learning at Scale, arXiv 1611.01236",
    "protocol": "measured on the weights that the authors of BANG released",
}


class Reason(NamedTuple):
    """One reason code: meaning and advice are sentences for a reader who is told that the check found something."""

    code: str
    group: Group
    check: str
    meaning: str
    advice: str
    sources: tuple[str, ...]


def _reason(code: str, group: Group, check: str, meaning: str, advice: str, *sources: str) -> Reason:
    return Reason(code, group, check, meaning, advice, sources)


_ALL = (
    _reason(
        "input-scale",
        "preflight",
        "Accuracy as the model is given its images, and under other scales, mean subtraction and inversion.",
        "The model classifies clearly better when its images are scaled differently, so it is not shown what it was "
        "trained on; every rate is about another model than the one meant.",
        "Give the preprocessing that the model was trained with (--input-scale, --mean, --std).",
        "Croce 2021",
    ),
    _reason(
        "channel-order",
        "preflight",
        "Accuracy with the colour channels reversed.",
        "The model classifies clearly better with its colour channels in the other order.",
        "Swap the channels inside the model.",
        "Croce 2021",
    ),
    _reason(
        "chance-accuracy",
        "preflight",
        "The accuracy lies clearly above that of a guess, or of always answering the commonest class.",
        "The model knows next to nothing about these images: what it answers right, it answers by chance.",
        "Look for forgotten weights, labels in another order, other preprocessing, a training that collapsed.",
        "Carlini 2019",
    ),
    _reason(
        "constant-predictions",
        "preflight",
        "No class is given to nearly all images, and the logits of the images differ.",
        "The model gives nearly every image the same answer: no attack can change it, which is no robustness.",
        "Look for forgotten weights, dead or saturated layers, a training that collapsed.",
        "Carlini 2019",
    ),
    _reason(
        "train-mode",
        "preflight",
        "No dropout or normalisation layer is left in training mode.",
        "A layer behaves as in training: outputs depend on chance or on the other images of a batch, and attacks "
        "chase a moving target.",
        "Make sure that eval() reaches every layer, and that no layer is switched back in forward().",
        "Croce 2021",
    ),
    _reason(
        "probabilities",
        "preflight",
        "The outputs are not in [0, 1] with sum 1 (tolerance 1e-5).",
        "The model returns probabilities. A second softmax flattens the loss, and gradients vanish where the model is "
        "confident.",
        "Let the model return logits: leave out the last softmax.",
        "Croce 2020",
    ),
    _reason(
        "random-outputs",
        "preflight",
        "Five repeats of the same forward pass differ by at most 1e-4 of the logits' spread.",
        "The forward pass is random: a failed attempt may be bad luck, a successful one good luck, and a gradient of "
        "one pass is not the gradient of the next.",
        "Fix the randomness, or attack the expectation over many passes.",
        "Croce 2020",
        "Croce 2021",
        "Athalye 2018",
    ),
    _reason(
        "depends-on-history",
        "preflight",
        "The same answers to the same batch, with the same random numbers, whatever the model was shown before.",
        "The model answers from earlier inputs or counts its calls: what an attack learns is gone in the next pass.",
        "Keep no state in forward(): no caches, counters, running statistics or generators of its own.",
        "Carlini 2019",
        "Croce 2021",
    ),
    _reason(
        "batch-dependent",
        "preflight",
        "The same logits for an image alone, in a batch, and in a batch of another order.",
        "What an image is classified as depends on the images beside it, so an attack on a batch proves nothing for an "
        "image alone.",
        "Put normalisation layers in eval mode; compute nothing across the batch.",
        "Croce 2021",
    ),
    _reason(
        "bad-outputs",
        "preflight",
        "Every logit is finite.",
        "Some logits are NaN or infinite: predictions there are arbitrary and gradients useless, which an attack "
        "counts as a failure.",
        "Find the operation that overflows; until then count these images as not robust.",
        "Croce 2020",
    ),
    _reason(
        "knows-test-images",
        "preflight",
        "The accuracy stays when the images are moved by a grey level, a quarter of a pixel, a pixel.",
        "The model knows these very images by heart: a change that no one would see costs it what it seems to know.",
        "Look for test images in the model, lookup tables, hashes of the input; measure on images that it never saw.",
        "Carlini 2019",
    ),
    _reason(
        "no-gradient",
        "preflight",
        "A gradient reaches the image.",
        "The graph between image and logits is broken, so that no gradient attack can work at all.",
        "Remove detach(), no_grad() and conversions to numpy from forward(), or attack a differentiable "
        "approximation (BPDA).",
        "Athalye 2018",
        "Pintor 2022",
    ),
    _reason(
        "wrong-gradient",
        "preflight",
        "The gradient of the margin, in float32 as attacks follow it and in float64, agrees with finite differences in "
        "float64 on each of 32 images; more than 5 % of them may not disagree.",
        "The gradient that attacks follow is not the gradient of what the model computes.",
        "Look for custom backward passes and straight-through estimators; trust only attacks without gradients.",
        "Athalye 2018",
    ),
    _reason(
        "shattered-gradient",
        "preflight",
        "The logits change when an image changes by a small step, as they do when it changes by a large one.",
        "The model computes steps: its gradient is zero or has nothing to do with the nearest decision boundary.",
        "Attack through a smooth approximation of the step (BPDA), and trust attacks without gradients.",
        "Athalye 2018",
    ),
    _reason(
        "inner-gradient",
        "preflight",
        "The forward pass computes no gradients of its own.",
        "The model optimises inside its forward pass; attacks that see one pass do not see through it.",
        "Attack the whole loop, unrolled, or use attacks without gradients.",
        "Croce 2020",
        "Croce 2021",
    ),
    _reason(
        "rough-loss",
        "preflight",
        "The margin changes smoothly between random points around an image.",
        "The loss surface is so rough that one gradient says little about the next step.",
        "Average gradients over a neighbourhood, use more restarts and smaller steps, and gradient-free attacks.",
        "Pintor 2022",
    ),
    _reason(
        "loss-underflow",
        "vanishing",
        "The share of images whose float32 loss is exactly 0, and of those whose float64 loss is.",
        "The model is so confident that its loss is exactly 0 in float32: attacks on the cross-entropy have nothing "
        "to climb, whatever the model's robustness.",
        "Attack the margin between logits (fgs-unmasked, pgd, apgd), or compute the loss in float64.",
        "Croce 2020",
        "protocol",
    ),
    _reason(
        "vanishing-gradient",
        "vanishing",
        "The share of images whose autograd gradient of the cross-entropy is all zero or subnormal in float32.",
        "The gradient of the loss underflows; signs of what is left are rounding noise.",
        "Attack the margin between logits (fgs-unmasked, pgd, apgd), or compute the gradient in float64.",
        "Croce 2020",
        "Pintor 2022",
    ),
    _reason(
        "margin-gradient-gone",
        "vanishing",
        "The gradient of the margin is neither zero nor NaN nor infinite.",
        "Even the difference of two logits has no usable gradient: no gradient attack says anything about these "
        "images.",
        "Find the layer where the gradient ends; trust only attacks without gradients until then.",
        "Athalye 2018",
        "Pintor 2022",
    ),
    _reason(
        "fgs-masked",
        "masked against unmasked",
        "FGS flips as many images as the same attack computed without float32 underflow.",
        "FGS fails because its gradient vanishes in float32. The rate measures underflow, not robustness.",
        "Read fgs-unmasked, pgd and the worst case; never report this FGS rate alone.",
        "protocol",
        "Croce 2020",
    ),
    _reason(
        "hot-cold-sign",
        "masked against unmasked",
        "The weight of the true class in HC1 leads away from it (its logit is positive).",
        "The true logit is negative, so that HC1 as published pushes towards the true class and needs far larger "
        "changes. The rate and its distances measure a sign, not robustness.",
        "Read hc1-unmasked, pgd and the worst case; never report this HC1 rate alone.",
        "protocol",
    ),
    _reason(
        "logit-offset",
        "masked against unmasked",
        "Subtracting the same number from all logits of an image changes no rate.",
        "An attack's rate depends on a constant added to all logits, which changes no prediction: it measures that "
        "constant.",
        "Read the attacks that depend on differences of logits only: fgs-unmasked, pgd, apgd.",
        "Croce 2020",
    ),
    _reason(
        "logit-scale",
        "masked against unmasked",
        "Dividing all logits by their typical margin, where that is above 5, changes no rate.",
        "An attack's rate depends on a factor on all logits, which changes no prediction: the model hides behind the "
        "size of its logits, as defensive distillation does.",
        "Scale the logits before attacking, or read fgs-unmasked, pgd, apgd.",
        "Croce 2020",
        "Carlini 2019",
    ),
    _reason(
        "float64-differs",
        "masked against unmasked",
        "The attacks flip as many images when their gradients are computed in float64.",
        "The rate depends on the precision of the arithmetic, which changes no prediction.",
        "Report the rate of the higher precision.",
        "Croce 2020",
    ),
    _reason(
        "weak-attacks-only",
        "stronger attacks",
        "The rate of a weak attack is close to that of the strongest one within the same distance.",
        "Only one-step attacks stand behind this rate; far more images fall to stronger ones.",
        "Report the worst case over all attacks instead.",
        "Carlini 2019",
    ),
    _reason(
        "one-step-beats-many",
        "consistency",
        "FGS without underflow flips no image within a budget that PGD does not (at most 1 %).",
        "An attack of many steps does worse than one step, which an attack that follows a useful gradient cannot.",
        "Check step size, projection and loss of the attack, and the model for shattered or random gradients.",
        "Carlini 2019",
        "Athalye 2018",
    ),
    _reason(
        "gradient-free-beats-gradient",
        "consistency",
        "Square flips at most 0.2 points more images than PGD and APGD together, and at most 2 % that they do not.",
        "An attack that never looks at a gradient does better than those that follow it: the gradient is useless.",
        "Look for vanishing, shattered or random gradients; the worst case is the number that counts.",
        "Carlini 2019",
        "Croce 2020",
    ),
    _reason(
        "transfer-beats-direct",
        "consistency",
        "The regular model's adversarial images flip no image that survives the direct attacks.",
        "Images made for another model succeed where attacks on this one fail, so those do not see its gradient.",
        "Look for vanishing, shattered or random gradients; the worst case is the number that counts.",
        "Carlini 2019",
    ),
    _reason(
        "noise-beats-attack",
        "consistency",
        "Random noise within a budget flips no image that survives the attacks.",
        "Chance finds what the attacks do not.",
        "Distrust the attacks: more restarts, other losses, other step sizes.",
        "Carlini 2019",
    ),
    _reason(
        "unbounded-attack-fails",
        "consistency",
        "With a budget of the whole range, PGD leaves no image as it is classified.",
        "An attack that may change everything still fails: it is the attack that fails, not the model that holds.",
        "Look at the survivors named: zero gradients, wrong step sizes, or a class that the model gives to anything.",
        "Carlini 2019",
        "Athalye 2018",
        "Pintor 2022",
    ),
    _reason(
        "bigger-budget-worse",
        "consistency",
        "No attack that searches its ball loses more images to a bigger budget than chance does: McNemar's exact test "
        "of each attack in each two neighbouring balls, adjusted by Holm, alarm below p = 0.001.",
        "A bigger ball contains the smaller one; an attack that does worse in it has not converged.",
        "More steps and restarts, a step size that fits the budget.",
        "Carlini 2019",
    ),
    _reason(
        "not-converged",
        "consistency",
        "PGD with twice the steps flips at most 1 % more images.",
        "More work finds more adversarial images; the rate is not yet the attack's best.",
        "Raise the steps or restarts until nothing changes; read the worst case as a lower bound until then.",
        "Carlini 2019",
        "Pintor 2022",
    ),
    _reason(
        "weaker-than-others",
        "consistency",
        "Each attack that tried every image flips, image by image, what others flip within the same budget, but for "
        "1 %; alarm where one that follows gradients is 10 points below FGS, Square, noise and transfer together or 25 "
        "below another one of its kind, or where Square finds less than a tenth of the worst case.",
        "This attack by itself leaves images that others flip within the same budget, weaker ones among them: its rate "
        "is not what the model withstands, nor what the attack does to a model that it can follow.",
        "Do not quote this rate alone; read the worst case, and look for what this attack's loss or search meets here.",
        "Croce 2020",
        "Pintor 2022",
    ),
    _reason(
        "success-lost",
        "hygiene",
        "Every success is a success of the stored uint8 image, judged by a forward pass of its own.",
        "An image counted as flipped is classified correctly when it is read back.",
        "Judge the rounded image, and keep the first iterate that succeeded.",
        "Pintor 2022",
        "Carlini 2019",
    ),
    _reason(
        "budget-violated",
        "hygiene",
        "Distances recomputed in float64 stay inside the budget and grey levels inside 0..255.",
        "An adversarial image is farther away than the budget allows; the rate is of another attack.",
        "Project after every step, and round to grey levels before the projection.",
        "Carlini 2019",
    ),
    _reason(
        "denominators",
        "hygiene",
        "Wrong on clean images, attacked and flipped are counted apart and add up.",
        "The counts do not add up, so that rates of two models cannot be compared.",
        "Report robust accuracy (correct and never flipped, of all images) beside the rate of the correct ones.",
        "Carlini 2019",
    ),
    _reason(
        "few-classes",
        "hygiene",
        "The model has the three classes that the DLR loss of APGD needs.",
        "With two classes the DLR loss is not defined; APGD climbs the plain margin instead.",
        "Nothing: the margin is the right loss with two classes.",
        "Croce 2020",
    ),
    _reason(
        "trained-on-attack",
        "hygiene",
        "None of the attacks is one that the training method, by its own word, shows the model.",
        "The model has seen this attack in training; its rate says little about other attacks.",
        "Read the other attacks and the worst case.",
        "Carlini 2019",
        "Kurakin 2017",
    ),
    _reason(
        "pass-artefacts",
        "hygiene",
        "PASS of an image with itself is 1, and few alignments fail.",
        "PASS means do not compare: alignments failed, or images are too flat for it.",
        "Read the unaligned SSIM and the distances beside PASS.",
        "protocol",
    ),
    _reason(
        "few-images",
        "hygiene",
        "Enough images for the rate's 95 % interval to be narrower than 10 points, and 30 at least for any verdict.",
        "With so few images no ranking of models can be told from chance.",
        "Raise --limit.",
        "Carlini 2019",
    ),
)

#: All reasons by code, in the order in which an audit makes its checks.
REASONS = {reason.code: reason for reason in _ALL}
