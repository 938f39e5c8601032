"""Sources of published weights: licences, citations, and notes for the model card."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A kind of checkpoint and its terms.

    Attributes:
        title: Name of the model.
        files: Names of the published files.
        url: Page on which the authors publish the files.
        license: The Hub's licence identifier, "other" if the Hub has none.
        license_name: Name of the licence.
        license_link: Address of the licence's text.
        terms: What the licence means for a user, in words.
        citation: BibTeX of the publication.
        notes: What a user of the converted weights must know.
    """

    title: str
    files: str
    url: str
    license: str
    license_name: str
    license_link: str
    terms: str
    citation: str
    notes: str


_ST_MEM = """\
@inproceedings{na2024guiding,
  title     = {Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of Electrocardiogram},
  author    = {Na, Yeongyeon and Park, Minje and Tae, Yunwon and Joo, Sunghoon},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}"""
_ECHOPRIME = """\
@article{vukadinovic2024echoprime,
  title   = {EchoPrime: A Multi-Video View-Informed Vision-Language Model for Comprehensive Echocardiography
             Interpretation},
  author  = {Vukadinovic, Milos and Tang, Xiu and Yuan, Neal and Cheng, Paul and Li, Debiao and Cheng, Susan and
             He, Bryan and Ouyang, David},
  journal = {arXiv preprint arXiv:2410.09704},
  year    = {2024}
}"""
_MVIT = """\
@inproceedings{li2022mvitv2,
  title     = {MViTv2: Improved Multiscale Vision Transformers for Classification and Detection},
  author    = {Li, Yanghao and Wu, Chao-Yuan and Fan, Haoqi and Mangalam, Karttikeya and Xiong, Bo and Malik, Jitendra
               and Feichtenhofer, Christoph},
  booktitle = {Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}"""
_MEIT = """\
@article{wan2024meit,
  title   = {MEIT: Multimodal Electrocardiogram Instruction Tuning on Large Language Models for Report Generation},
  author  = {Wan, Zhongwei and others},
  journal = {arXiv preprint arXiv:2403.04945},
  year    = {2024}
}"""
_HEARTCARE = """\
@article{heartcare2025,
  title   = {Heartcare Suite: A Unified Multimodal ECG Suite for Dual Signal-Image Modeling and Understanding},
  journal = {arXiv preprint arXiv:2506.05831},
  year    = {2025}
}"""
_MORE = """\
@article{thapa2024more,
  title   = {MoRE: Multi-Modal Contrastive Pre-training with Transformers on X-Rays, ECGs, and Diagnostic Report},
  author  = {Thapa, Samrajya and Howlader, Koushik and Bhattacharjee, Subhankar and Le, Wei},
  journal = {arXiv preprint arXiv:2410.16239},
  year    = {2024}
}"""
_HUBERT_ECG = """\
@article{coppola2024hubert,
  title   = {HuBERT-ECG as a self-supervised foundation model for broad and scalable cardiac applications},
  author  = {Coppola, Edoardo and Savardi, Mattia and Massussi, Mauro and Adamo, Marianna and Metra, Marco and
             Signoroni, Alberto},
  journal = {medRxiv},
  year    = {2024}
}"""
_ECG_FM = """\
@article{mckeen2024ecgfm,
  title   = {ECG-FM: An Open Electrocardiogram Foundation Model},
  author  = {McKeen, Kaden and Masood, Sameer and Toma, Augustin and Rubin, Barry and Wang, Bo},
  journal = {arXiv preprint arXiv:2408.05178},
  year    = {2024}
}"""
_ECHO_JEPA = """\
@article{munim2026echojepa,
  title   = {EchoJEPA: A Latent Predictive Foundation Model for Echocardiography},
  author  = {Munim, Alif and Fallahpour, Adibvafa and Szasz, Teodora and Attarpour, Ahmadreza and Jiang, River and
             Sooriyakanthan, Brana and Sooriyakanthan, Maala and Whitney, Heather and Slivnick, Jeremy and Rubin, Barry
             and Tsang, Wendy and Wang, Bo},
  journal = {arXiv preprint arXiv:2602.02603},
  year    = {2026}
}"""
_PANECHO = """\
@article{holste2025panecho,
  title   = {Complete AI-Enabled Echocardiography Interpretation with Multitask Deep Learning},
  author  = {Holste, Gregory and Oikonomou, Evangelos K. and Tokodi, M{\\'a}rton and Kov{\\'a}cs, Attila and
             Wang, Zhangyang and Khera, Rohan},
  journal = {JAMA},
  year    = {2025}
}"""
_CEDARS_TERMS = (
    "Academic and non-profit research only. No onward transfer of the weights or of anything derived from them, this "
    "directory included: do not upload it, not to a private repository either. Publications have to acknowledge "
    "EchoPrime. (The project's README says MIT, its licence file does not: the stricter text is followed here.)"
)

SOURCES: dict[str, Source] = {
    "st-mem": Source(
        title="ST-MEM, a vision transformer for the 12-lead ECG",
        files="st_mem_vit_base_encoder.pth, st_mem_vit_base_full.pth",
        url="https://github.com/bakqui/ST-MEM",
        license="cc-by-nc-4.0",
        license_name="CC BY-NC 4.0",
        license_link="https://github.com/bakqui/ST-MEM/blob/main/LICENSE",
        terms="Non-commercial use only, with attribution. The project's README moreover reserves all rights for VUNO "
        "and forbids redistribution without permission: treat weights and this directory as not redistributable.",
        citation=_ST_MEM,
        notes="The ECG has to be prepared as ST-MEM's was: 9 s at 250 Hz, 0.67 to 40 Hz, one mean and deviation over "
        "all leads. The feature extractor in this directory does that.",
    ),
    "echoprime": Source(
        title="EchoPrime's video encoder, an MViT-v2-S for one echo clip",
        files="echo_prime_encoder.pt",
        url="https://github.com/echonet/EchoPrime",
        license="other",
        license_name="cedars-sinai-academic-software-license",
        license_link="https://github.com/echonet/EchoPrime/blob/main/LICENSE",
        terms=_CEDARS_TERMS,
        citation=_ECHOPRIME + "\n" + _MVIT,
        notes="Clips have to be prepared as EchoPrime's were: sector mask, BGR, central square, 16 frames. The image "
        "processor in this directory does that.",
    ),
    "echoprime-views": Source(
        title="EchoPrime's view classifier, a ConvNeXt-base with 11 classes",
        files="view_classifier.pt",
        url="https://github.com/echonet/EchoPrime",
        license="other",
        license_name="cedars-sinai-academic-software-license",
        license_link="https://github.com/echonet/EchoPrime/blob/main/LICENSE",
        terms=_CEDARS_TERMS,
        citation=_ECHOPRIME,
        notes="It looks at the first frame of a clip after masking, conversion to BGR and cropping, as "
        "`EchoImageProcessor` of tgmm-hf makes it. The image processor in this directory only normalises such a frame.",
    ),
    "meit": Source(
        title="MEIT's ECG encoder and projector, a one-dimensional ResNet-50",
        files="ecg_model.pth, which the training code writes; its authors publish no trained file",
        url="https://github.com/AIoT-MLSys-Lab/MEIT",
        license="other",
        license_name="terms-of-the-training-data",
        license_link="https://github.com/AIoT-MLSys-Lab/MEIT/blob/main/ECG_LLMs/LICENSE",
        terms="The training code is under Apache-2.0. The weights are of whoever trained them: the terms of the "
        "training data (MIMIC-IV-ECG, PTB-XL) and of that person apply. Do not upload this directory unless both "
        "allow it.",
        citation=_MEIT,
        notes="The projector belongs to the language model that it was trained with. The published code gives the "
        "leads in the order of the file: MIMIC-IV-ECG has aVR, aVF, aVL, and PTB-XL has aVR, aVL, aVF. The feature "
        "extractor in this directory gives aVR, aVL, aVF. Set its `lead_order` for weights that "
        "were trained on MIMIC-IV-ECG.",
    ),
    "beat": Source(
        title="Beat, the ECG tokenizer of Heartcare, in the layout of the public prototype",
        files="the file with `model_state_dict` that the notebook writes; its authors publish no trained file",
        url="https://github.com/DCDmllm/Heartcare-Suite",
        license="other",
        license_name="no-licence",
        license_link="https://github.com/DCDmllm/Heartcare-Suite",
        terms="The prototype has no licence file, so its authors reserve all rights. The weights are of whoever "
        "trained them: the terms of the training data (PTB-XL) and of that person apply. Do not upload this directory "
        "unless both allow it.",
        citation=_HEARTCARE,
        notes="The input is 2 s at 250 Hz of 12 leads (500 samples), each lead with mean 0 and deviation 1. There is "
        "no processor in this directory. `model.encode(input_values)` gives codes, `model.decode(codes)` the ECG.",
    ),
    "more": Source(
        title="MoRE: chest X-ray, ECG and report in one contrastive space",
        files="the state dict of the whole model, which the training code writes",
        url="https://github.com/svthapa/MoRE",
        license="other",
        license_name="no-licence",
        license_link="https://github.com/svthapa/MoRE",
        terms="The project has no licence file, so its authors reserve all rights. The terms of the training data "
        "(MIMIC-CXR-JPG, MIMIC-IV-ECG) and of whoever trained the weights apply. Do not upload this directory unless "
        "all allow it.",
        citation=_MORE,
        notes="Texts are padded to the full length, because the published feature of a text is the mean over its "
        "padding too. ECGs have the lead order of MIMIC-IV-ECG (aVF before aVL). The processor in this directory does "
        "both. Without `--tokenizer` the directory has no processor.",
    ),
    "hubert-ecg": Source(
        title="HuBERT-ECG, a HuBERT for the 12-lead ECG",
        files="model.safetensors of hubert-ecg-small, hubert-ecg-base or hubert-ecg-large",
        url="https://huggingface.co/Edoardo-BS",
        license="cc-by-nc-4.0",
        license_name="CC BY-NC 4.0",
        license_link="https://github.com/Edoar-do/HuBERT-ECG/blob/master/LICENSE",
        terms="Non-commercial use only, with attribution, of the weights and of everything that is derived from them.",
        citation=_HUBERT_ECG,
        notes="The ECG has to be prepared as HuBERT-ECG's was: 5 s at 100 Hz, 0.05 to 47 Hz, each lead between -1 and "
        "1, one lead after the other. The feature extractor in this directory does that.",
    ),
    "ecg-fm": Source(
        title="ECG-FM, a wav2vec 2.0 for the 12-lead ECG",
        files="mimic_iv_ecg_physionet_pretrained.pt or mimic_iv_ecg_finetuned.pt",
        url="https://huggingface.co/wanglab/ecg-fm",
        license="mit",
        license_name="MIT",
        license_link="https://github.com/bowang-lab/ECG-FM/blob/main/LICENSE",
        terms="The licence notice has to stay with the weights. They were trained on MIMIC-IV-ECG and PhysioNet 2021; "
        "whether weights inherit terms of these data is for you to settle.",
        citation=_ECG_FM,
        notes="The ECG has to be prepared as ECG-FM's was: 5 s at 500 Hz, each lead with mean 0 and deviation 1 over "
        "the whole recording, no filter. The feature extractor in this directory does that.",
    ),
    "echojepa": Source(
        title="EchoJEPA, a V-JEPA 2 for echo clips",
        files="the checkpoint that the training code writes, with the entry target_encoder",
        url="https://github.com/bowang-lab/EchoJEPA",
        license="other",
        license_name="weights-without-a-stated-licence",
        license_link="https://github.com/bowang-lab/EchoJEPA#license",
        terms="The project's README puts the code under MIT and parts of it under Apache-2.0. It states no licence of "
        "trained weights. EchoJEPA-L is trained on MIMIC-IV-ECHO, so the terms of PhysioNet's credentialed data and of "
        "whoever trained the file apply. Do not upload this directory unless both allow it.",
        citation=_ECHO_JEPA,
        notes="Clips have to be prepared as EchoJEPA's were: whole frames stretched to a square, RGB, ImageNet's mean "
        "and deviation, 16 frames at a step of 2. The image processor in this directory does that. The published work "
        "reads the tokens with an attentive probe; `pooler_output` is their mean.",
    ),
    "panecho": Source(
        title="PanEcho, a ConvNeXt and a transformer over the frames of an echo clip",
        files="panecho.pt",
        url="https://github.com/CarDS-Yale/PanEcho",
        license="cc-by-nc-sa-4.0",
        license_name="CC BY-NC-SA 4.0",
        license_link="https://github.com/CarDS-Yale/PanEcho/blob/main/LICENSES.md",
        terms="Non-commercial use only, with attribution. What is derived from the weights may be shared under the "
        "same licence only, this directory included. (The project's code is under AGPLv3; none of it is here.)",
        citation=_PANECHO,
        notes="Clips have to be prepared as PanEcho's were: whole frames stretched to a square, channels in the order "
        "BGR, ImageNet's mean and deviation, 16 frames one after the other. The image processor in this directory does "
        "that. The 39 task heads are left out.",
    ),
    "kinetics-mvit": Source(
        title="torchvision's MViT-v2-S trained on Kinetics-400",
        files="the state dict of torchvision's MViT_V2_S_Weights.KINETICS400_V1",
        url="https://docs.pytorch.org/vision/stable/models/video_mvit.html",
        license="bsd-3-clause",
        license_name="BSD 3-Clause (torchvision)",
        license_link="https://github.com/pytorch/vision/blob/main/LICENSE",
        terms="torchvision's code and weights are under the BSD licence; whether weights inherit terms of the "
        "Kinetics-400 videos they were trained on is for you to settle.",
        citation=_MVIT,
        notes="These weights were trained on RGB video scaled to 0-1 with mean 0.45 and deviation 0.225, on everyday "
        "actions. The image processor in this directory normalises to the same range, but gives channels in the order "
        "BGR: grey images are the same either way, colour Doppler is not. They are a start for training, no echo "
        "encoder.",
    ),
}
"""Kind of checkpoint, as `tgmm convert` names it -> source."""
